"""From recorded speech to the codes of a codec: what models of several rows speak (Mini-Omni).

Every turn with sound gets its codes as `units`, those of each frame in turn, frame after frame; the sound is kept,
since such a model hears it. A split that was coded already is left as it is.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from omni_jax.build.driver import Preparation, Work, prepare
from omni_jax.build.each import apart_each
from omni_jax.build.made import read_marks
from omni_jax.checkpoint.card import read_card
from omni_jax.checkpoint.store import require_step
from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.generate.speech_stages import load_codec
from omni_jax.prepare.audio import decode_audio
from omni_jax.prepare.corpora.records import Records, require_splits
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.writer import read_splits

_CODED = "coded.json"  # split -> the codec whose codes it has


class Codec(Protocol):
  """What is asked of a codec; `speech.snac.SNAC` is one, `speech.unit_codec.UnitCodec` another."""

  @property
  def sample_rate(self) -> int:
    """Samples per second of the waveforms it takes."""
    ...

  def encode(self, waveform: np.ndarray) -> np.ndarray:
    """Returns codes int32 [F, Q] of a float waveform [A]."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Codes:
  """The step from sound to codes, by the codec of a stage (`generate.speech_stages.load_codec`)."""

  workdir: Path
  stage: str

  def open(self) -> Work:
    """Returns the step with the codec loaded."""
    codec: Codec = load_codec(self.workdir, stage=self.stage, vocoder=None)
    return apart_each(lambda example: _coded(example, codec))

  @property
  def mark(self) -> str:
    """Which training of the codec makes the codes.

    Raises:
      UserError: the stage is missing or damaged.
    """
    folder = self.workdir / "stages" / self.stage
    return f"{read_card(folder)['fingerprint']}@{require_step(folder)}"


def code_corpus(sets: Sequence[str], workdir: Path, *, stage: str, say: Callable[[str], None] = print) -> Path:
  """Writes `workdir/codes/<set>` for each of these sets of `workdir/corpus` and returns `workdir/codes`.

  Raises:
    UserError: a set or the stage is missing or damaged, a record cannot be coded, or a set was coded by another codec.
      What is finished stays.
  """
  step = Codes(workdir=workdir, stage=stage)
  for name in sets:
    splits, folder = require_splits(workdir / "corpus" / name), workdir / "codes" / name
    known = read_marks(folder / _CODED)
    if set(known.values()) - {step.mark}:
      raise UserError(
        f"codes of {', '.join(sorted(set(known.values())))}",
        where=folder,
        rule=f"all splits of a set are coded by one codec, here {step.mark}",
        remedy="delete the folder, or use the codec that made it",
      )
    for split in splits:
      if split in known and split in read_splits(folder):
        say(f"codes of {name}/{split}: already there")
        continue
      source = Records(folder=workdir / "corpus" / name, split=split)
      mark = json.dumps([step.mark, source.written()])
      preparation = Preparation(corpus=source, steps=(step,), max_rejected=0, mark=mark)
      made = prepare(preparation, folder, split, replace=True, say=say)
      known[split] = step.mark
      write_whole(folder / _CODED, json.dumps(known, indent=1))
      say(f"{folder}, {split}: {made.records} records coded")
  return workdir / "codes"


def _coded(example: Example, codec: Codec) -> Example:
  """Returns a record, turns with sound with the codec's codes as `units`."""
  turns = tuple(_with_codes(turn, codec) if turn.audio else turn for turn in example.turns)
  return dataclasses.replace(example, turns=turns)


def _with_codes(turn: Turn, codec: Codec) -> Turn:
  waveform = decode_audio(turn.audio, sample_rate=codec.sample_rate)
  return dataclasses.replace(turn, units=codec.encode(waveform).reshape(-1))
