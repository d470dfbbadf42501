"""From recorded speech to units and heard styles: what the language model is trained on.

Every turn with sound gets its units (25 a second, repetitions kept) and the style that the style encoder hears; in
training splits of the corpus made here, turns of the answering voices also get how long each unit lasts, to 10 ms, for
the vocoder to learn from, and the sound itself is dropped; a test needs it. `Units` is a step of
`build/driver.py`, for a set of the corpus and for any public corpus alike.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omni_jax.build.driver import Preparation, Work, prepare
from omni_jax.build.each import apart
from omni_jax.build.made import mark_of_stages
from omni_jax.checkpoint.store import load_model
from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.generate.speech_stages import load_tokenizer
from omni_jax.prepare.audio import SAMPLE_RATE, decode_audio
from omni_jax.prepare.corpora.records import Records, require_splits
from omni_jax.prepare.quarantine import Rejected
from omni_jax.prepare.reader import open_set
from omni_jax.prepare.schema import Example
from omni_jax.prepare.writer import read_splits
from omni_jax.speech.interface import SpeechTokenizer, StyleEncoder
from omni_jax.speech.lengths import LENGTHS_FILE, Recording, fit

TOGETHER = 256  # records encoded at once; sorted by length, so little of them is padding
_PORTION = 8 * TOGETHER  # a shard holds whole batches, so that units do not depend on how sets are cut
_TRAINING = "train"
_TIMES_PER_SECOND = 100  # `time_batch` tells durations to 10 ms


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodeConfig:
  """Which sets of a corpus are encoded, by which stages, and which voices get the durations of their units.

  Without a `style` stage, styles are not heard.
  """

  sets: tuple[str, ...]
  tokenizer: str = "tokenizer"
  style: str | None = "style"
  timed_voices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Units:
  """The step from sound to units and heard styles.

  Attributes:
    tokenizer: the folder of a trained tokenizer stage.
    style: the folder of a trained style encoder stage; None: styles are not heard.
    keep_audio: whether the sound stays in the record.
    timed_voices: voices whose units get their durations.
  """

  tokenizer: Path
  style: Path | None
  keep_audio: bool
  timed_voices: tuple[str, ...] = ()

  def open(self) -> Work:
    """Returns the step with both models loaded."""
    tokenizer = load_tokenizer(self.tokenizer.parents[1], stage=self.tokenizer.name)
    style_encoder = load_model(self.style)[1] if self.style else None
    _require_one_row(tokenizer, self.tokenizer)

    def work(examples: Sequence[Example]) -> list[Example | Rejected]:
      return encode_examples(
        examples, tokenizer, style_encoder, keep_audio=self.keep_audio, timed_voices=self.timed_voices
      )

    return work

  @property
  def mark(self) -> str:
    """Which training of the models made the units.

    Raises:
      UserError: a stage is missing or damaged.
    """
    return mark_of_stages([folder for folder in (self.tokenizer, self.style) if folder])


def encode_corpus(config: EncodeConfig, workdir: Path, *, say: Callable[[str], None] = print) -> Path:
  """Writes `workdir/units/<set>` for each set of `workdir/corpus` and returns `workdir/units`.

  Raises:
    UserError: a set or a stage is missing or damaged, or the disk refuses. Finished splits stay.
  """
  stages, units = workdir / "stages", workdir / "units"
  wanted = [(name, split) for name in config.sets for split in require_splits(workdir / "corpus" / name)]
  anything_new = False
  for name, split in wanted:
    source = Records(folder=workdir / "corpus" / name, split=split)
    training = split == _TRAINING
    step = Units(
      tokenizer=stages / config.tokenizer,
      style=stages / config.style if config.style else None,
      keep_audio=not training,
      timed_voices=config.timed_voices if training else (),
    )
    mark = json.dumps([step.mark, source.written()])
    preparation = Preparation(corpus=source, steps=(step,), portion=_PORTION, chunk=TOGETHER, max_rejected=0, mark=mark)
    made = prepare(preparation, units / name, split, replace=True, say=lambda _: None)
    anything_new |= not made.was_there
    if not made.was_there:
      say(f"{name}/{split}: {made.records} records encoded")
  if not anything_new:
    say(f"units of {', '.join(config.sets)}: already encoded")
  _fit_lengths(config, workdir)
  return units


def encode_examples(
  examples: Sequence[Example],
  tokenizer: SpeechTokenizer,
  style_encoder: StyleEncoder | None,
  *,
  keep_audio: bool,
  timed_voices: tuple[str, ...] = (),
) -> list[Example | Rejected]:
  """Returns the records in order, turns with sound with `units` and, if there is a style encoder, `heard` filled in.

  Turns of `timed_voices` have `unit_frames` too. A record whose sound cannot be encoded is put aside.
  """
  settings: dict[str, Any] = {"keep_audio": keep_audio, "timed_voices": timed_voices}
  return list(apart(lambda some: _encode(some, tokenizer, style_encoder, **settings))(examples))


def _encode(
  examples: Sequence[Example],
  tokenizer: SpeechTokenizer,
  style_encoder: StyleEncoder | None,
  *,
  keep_audio: bool,
  timed_voices: tuple[str, ...],
) -> list[Example]:
  spoken = [turn for example in examples for turn in example.turns if turn.audio]
  waveforms = [decode_audio(turn.audio) for turn in spoken]
  encoded = tokenizer.encode_batch(waveforms) if spoken else []
  timed = [row for row, turn in enumerate(spoken) if turn.voice in timed_voices]
  frames = iter(tokenizer.time_batch([waveforms[row] for row in timed], [encoded[row] for row in timed]))
  units = iter(encoded)
  heard = iter(style_encoder.hear_batch(waveforms)) if style_encoder and spoken else None
  results = []
  for example in examples:
    turns = []
    for turn in example.turns:
      if turn.audio:
        lasting = next(frames) if turn.voice in timed_voices else ()
        changes: dict[str, Any] = {"units": np.ravel(next(units)), "unit_frames": lasting}
        if heard is not None:
          changes["heard"] = str(next(heard))
        turn = dataclasses.replace(turn, **changes, audio=turn.audio if keep_audio else b"")
      turns.append(turn)
    results.append(dataclasses.replace(example, turns=tuple(turns)))
  return results


def _fit_lengths(config: EncodeConfig, workdir: Path) -> None:
  """Writes how long texts last in the voices that are timed, if there is enough of them to tell."""
  encoded = sorted(folder for folder in (workdir / "units").iterdir() if _TRAINING in read_splits(folder))
  sources = [open_set(folder, _TRAINING) for folder in encoded]
  recordings = (
    Recording(turn.text, Style.parse(turn.style), sum(turn.unit_frames) / _TIMES_PER_SECOND)
    for source in sources
    for example in source
    for turn in example.turns
    if turn.voice in config.timed_voices and turn.style
  )
  path, found = workdir / "units" / LENGTHS_FILE, fit(recordings)
  if found is None:
    path.unlink(missing_ok=True)
  else:
    found.save(path)


def _require_one_row(tokenizer: SpeechTokenizer, stage: Path) -> None:
  if tokenizer.num_codebooks != 1 or tokenizer.sample_rate != SAMPLE_RATE:
    raise UserError(
      f"{tokenizer.num_codebooks} units a frame, the tokenizer reads {tokenizer.sample_rate} Hz",
      where=stage,
      rule=f"records hold one row of units, of sound at {SAMPLE_RATE} Hz",
      remedy="choose a tokenizer with one codebook; SNAC's codes are printed by `omni hear --units`",
    )
