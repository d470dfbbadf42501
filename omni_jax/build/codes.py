"""From recorded speech to the codes of a codec: what models of several rows speak (Mini-Omni).

Every turn with sound gets its codes as `units`, those of each frame in turn, frame after frame; the sound is kept,
since such a model hears it. A split that was coded already is left as it is.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.prepare.audio import SAMPLE_RATE, decode_audio
from omni_jax.prepare.reader import open_set
from omni_jax.prepare.schema import Example
from omni_jax.prepare.writer import read_splits, write_split

_CODED = "coded.json"


class Codec(Protocol):
  """What is asked of a codec; `speech.snac.SNAC` is one."""

  @property
  def sample_rate(self) -> int:
    """Samples per second of the waveforms it takes."""
    ...

  def encode(self, waveform: np.ndarray) -> np.ndarray:
    """Returns codes int32 [F, Q] of a float waveform [A]."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodesConfig:
  """Which sets of `corpus/` are coded into `codes/`, by which codec (a name that identifies it), in how many shards."""

  sets: tuple[str, ...]
  codec: str
  shards: int = 1


def code_corpus(config: CodesConfig, workdir: Path, *, codec: Codec, say: Callable[[str], None] = print) -> Path:
  """Writes `workdir/codes/<set>` for each set of `workdir/corpus` and returns `workdir/codes`.

  Raises:
    UserError: a set is missing or damaged, or was coded by another codec. Finished splits stay.
  """
  for name in config.sets:
    splits = sorted(read_splits(workdir / "corpus" / name))
    if not splits:
      raise UserError(
        "no records", where=workdir / "corpus" / name, rule="the set was made", remedy="run `omni corpus` first"
      )
    folder = workdir / "codes" / name
    known = json.loads((folder / _CODED).read_text()) if (folder / _CODED).is_file() else {}
    if set(known.values()) - {config.codec}:
      raise UserError(
        f"codes of {', '.join(sorted(set(known.values())))}",
        where=folder,
        rule=f"all splits of a set are coded by one codec, here {config.codec}",
        remedy="delete the folder, or use the codec that made it",
      )
    for split in splits:
      if split in known and split in read_splits(folder):
        say(f"codes of {name}/{split}: already there")
        continue
      examples = code_examples(open_set(workdir / "corpus" / name, split), codec)
      count = write_split(folder, split, examples, shards=config.shards)
      known[split] = config.codec
      write_whole(folder / _CODED, json.dumps(known, indent=1))
      say(f"{folder}, {split}: {count} records coded")
  return workdir / "codes"


def code_examples(source: Sequence[Example] | Any, codec: Codec) -> Iterator[Example]:
  """Yields the records of `source` in order, turns with sound with the codec's codes as `units`."""
  for index in range(len(source)):
    example = source[index]
    turns = [
      dataclasses.replace(turn, units=codec.encode(_at_rate(decode_audio(turn.audio), codec)).reshape(-1))
      if turn.audio
      else turn
      for turn in example.turns
    ]
    yield dataclasses.replace(example, turns=tuple(turns))


def _at_rate(waveform: np.ndarray, codec: Codec) -> np.ndarray:
  if codec.sample_rate == SAMPLE_RATE:
    return waveform
  import soxr

  return np.ascontiguousarray(soxr.resample(waveform, SAMPLE_RATE, codec.sample_rate), np.float32)
