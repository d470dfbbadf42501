"""A process that reads its part of planned batches: CONFIG PART PARTS STEPS FOLDER on its command line.

After each batch it adds the SHA-256 of each of its rows to FOLDER/PART.rows, one line a batch, and then replaces
FOLDER/PART.state, from which it goes on when it is started again.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

from omni_jax.core.config import from_json


def main() -> None:
  """Reads."""
  config, part, parts, steps, folder = sys.argv[1:]
  data, folder = from_json(json.loads(Path(config).read_text())), Path(folder)
  lines, state = folder / f"{part}.rows", folder / f"{part}.state"
  iterator = iter(data.open_part(int(part), int(parts)))
  if state.exists():
    iterator.set_state(json.loads(state.read_text()))
  while iterator.get_state()["row"] < int(steps) * data.rows:
    batch = next(iterator)
    digests = [
      hashlib.sha256(b"".join(name.encode() + array[row].tobytes() for name, array in batch.items())).hexdigest()
      for row in range(data.rows // int(parts))
    ]
    with lines.open("a") as file:
      file.write(" ".join(digests) + "\n")
    own = state.with_suffix(".partial")
    own.write_text(json.dumps(iterator.get_state()))
    os.replace(own, state)
  iterator.close()


if __name__ == "__main__":
  main()
