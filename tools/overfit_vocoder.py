"""Whether a vocoder can learn one batch by heart: if not, more data will not help it.

Trains the config on its first batch alone, then lets the speech tokenizer read what is made and the recordings of the
same clips. Ends with status 1 unless the clips have become intelligible, that is, at most a fifth of the phones are
read otherwise. Needs the corpus, its units and the stage `tokenizer`; with --sounds it writes both as FLAC.

    python tools/overfit_vocoder.py --config configs/speechgpt/unit_vocoder.py:tiny --workdir runs/tiny --steps 300
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from omni_jax.batches.spoken import SpokenSets
from omni_jax.cli.configs import load_config
from omni_jax.core import sharding
from omni_jax.core.compilation_cache import enable_compilation_cache
from omni_jax.core.errors import UserError
from omni_jax.evaluate import scores
from omni_jax.generate.speech_stages import load_tokenizer
from omni_jax.prepare.audio import encode_flac, resample
from omni_jax.speech.interface import PhoneReader
from omni_jax.train.learner import make_learner
from omni_jax.train.loop import Run

MOST_ERRORS = 0.2  # of the phones of a clip


def main() -> int:
  """Trains, prints a line now and then, and returns the status."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--config", required=True, metavar="FILE.py:FUNCTION", help="of a vocoder")
  parser.add_argument("--workdir", required=True, type=Path)
  parser.add_argument("--steps", type=int, default=300)
  parser.add_argument("--tell", type=int, default=50, help="steps between two lines")
  parser.add_argument("--tokenizer", default="tokenizer", metavar="STAGE", help="that reads what is made")
  parser.add_argument("--sounds", type=Path, help="folder for the clips")
  parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="change a field")
  arguments = parser.parse_args()
  enable_compilation_cache()
  run = load_config(arguments.config, returns=Run, arguments=(arguments.workdir,), settings=arguments.set)
  reader = load_tokenizer(arguments.workdir, stage=arguments.tokenizer)
  if not isinstance(reader, PhoneReader):
    raise UserError(
      f"stage {arguments.tokenizer!r} reads no phones",
      where=arguments.workdir,
      rule="clips are intelligible when their phones are read",
      remedy="name a tokenizer that was trained on phones",
    )
  errors = overfit(run, reader, arguments)
  print("intelligible" if errors <= MOST_ERRORS else f"not intelligible: more than {MOST_ERRORS:.0%} of the phones")
  return int(errors > MOST_ERRORS)


def overfit(run: Run, reader: PhoneReader, arguments: argparse.Namespace) -> float:
  """Returns the share of phones read otherwise in what is made at the end."""
  mesh = sharding.make_mesh(run.mesh)
  learner = make_learner(run, mesh)
  if learner.listen is None or not isinstance(run.data, SpokenSets):
    raise UserError(
      f"{run.name} makes no sound of units",
      where=arguments.config,
      rule="the clips of a vocoder can be heard",
      remedy="choose the config of a vocoder",
    )
  batch, errors, begun = next(iter(run.data.open())), 1.0, time.process_time()
  with jax.set_mesh(mesh):
    state = learner.create({})
    for step in range(1, arguments.steps + 1):
      state, sums = learner.step(state, batch)
      if step % arguments.tell and step < arguments.steps:
        continue
      clips = {name: np.asarray(rows) for name, rows in learner.listen(state, batch).items()}
      rows = {name: [resample(row, sample_rate=run.model.sample_rate) for row in made] for name, made in clips.items()}
      phones, units = phones_apart(reader, rows), units_apart(reader, rows)
      parts = {"mel": float(sums["mel"][0] / sums["mel"][1]), "phones otherwise": phones, "units otherwise": units}
      told = "  ".join(f"{name} {value:.3f}" for name, value in parts.items())
      print(f"step {step}  {told}  {time.process_time() - begun:.0f} CPU s", flush=True)
      errors = phones
  if arguments.sounds:
    write_sounds(clips, arguments.sounds, sample_rate=run.model.sample_rate)
  return errors


def phones_apart(reader: PhoneReader, rows: dict[str, list[np.ndarray]]) -> float:
  """Returns the phone errors of what is made against those read in the recordings."""
  return _apart(*(reader.phones_batch(rows[name]) for name in ("recorded", "made")))


def units_apart(reader: PhoneReader, rows: dict[str, list[np.ndarray]]) -> float:
  """Returns the errors of units likewise."""
  return _apart(*(reader.encode_batch(rows[name]) for name in ("recorded", "made")))


def _apart(recorded: Sequence[Sequence[int]], made: Sequence[Sequence[int]]) -> float:
  words = ([list(map(str, row)) for row in side] for side in (recorded, made))
  return scores.phone_errors(*words).score.value


def write_sounds(clips: dict[str, np.ndarray], folder: Path, *, sample_rate: int) -> None:
  """Writes every clip beside its recording."""
  folder.mkdir(parents=True, exist_ok=True)
  for name, rows in clips.items():
    for row, samples in enumerate(rows):
      (folder / f"{row}-{name}.flac").write_bytes(encode_flac(np.clip(samples, -1, 1), sample_rate))


if __name__ == "__main__":
  try:
    sys.exit(main())
  except UserError as error:
    sys.exit(str(error))
