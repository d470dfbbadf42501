"""Batches of grids with several rows: records written as Mini-Omni's tasks, mixed and packed like any others.

    tokens                         int32 [B, T, R]    ids of every row, padding is 0
    targets                        int32 [B, T, R]    entries of every row of the next column
    loss_mask                      float32 [B, T, R]  0 where nothing is learned
    target_kind                    int8 [B, T, R]     number of the task (`tokens.mini_omni.Task`), 0 where unlearned
    positions, segment_ids         int32 [B, T]       segment 0 is padding
    recordings, recording_frames   int16 [B, N, A], int32 [B, N], where a row has recordings

A view of a record is a task. The answer's codes are its units, the codes of each frame in turn, frame after frame.

| view            | task | the user gives   | the model learns            |
| --------------- | ---- | ---------------- | --------------------------- |
| `recognise`     | A1T1 | speech           | its transcript              |
| `written_reply` | A1T2 | speech           | text                        |
| `dialogue`      | A1A2 | speech           | text and codes              |
| `spoken_reply`  | T1A2 | text             | text and codes              |
| `text`          | T1T2 | text             | text                        |
| `synthesise`    | T1A1 | text             | codes of the same text      |
"""

import dataclasses
from pathlib import Path

import grain
import numpy as np

from omni_jax.batches.hearing import Recordings
from omni_jax.batches.meanings import layout_meanings
from omni_jax.batches.mixture import mix, quarantines
from omni_jax.batches.packing import Reading, pack
from omni_jax.batches.pictures import Pictures
from omni_jax.batches.planned import Planned
from omni_jax.batches.sources import Sample, Size, Source, columns_first, shifted
from omni_jax.batches.views import exchange, exchanges, turn_style
from omni_jax.core.config import added, to_json
from omni_jax.core.errors import UserError
from omni_jax.prepare.recordings import RecordingLayout
from omni_jax.prepare.schema import Example, Turn
from omni_jax.tokens.delays import entries
from omni_jax.tokens.extension import load_tokenizer
from omni_jax.tokens.grid import Grid
from omni_jax.tokens.mini_omni import MiniOmniLayout, Task
from omni_jax.tokens.text import TextTokenizer

TASKS_OF_VIEWS = {
  "recognise": Task.A1T1,
  "written_reply": Task.A1T2,
  "dialogue": Task.A1A2,
  "spoken_reply": Task.T1A2,
  "text": Task.T1T2,
  "synthesise": Task.T1A1,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridBatches:
  """What a stage of a Mini-Omni reads.

  Attributes:
    text: folder of the text tokenizer.
    layout: of the grid, equal to the model's.
    hearing: how recordings are cut, equal to that of the model's encoder.
    sources: what is read, in which shares; `text_weight` weighs the text row, `unit_weight` the rows of codes.
    rows: of a batch (B).
    length: columns of a row (T).
    recordings: in a row (N); 0: no source is heard.
    quarantine: file for records that cannot be used.
    seed: of the order.
    pad_weight: of the pads around codes; decoding forces them, so that 0 is enough, but the original learned them.
    cache_bytes: memory for samples that were written once; 0: none is kept.
    max_bad_share: of a source's records that may be put aside.
    codec: stage that made the codes and that speaks the answers.
    styles: whether spoken answers are asked for in their style, but for a source's `style_dropout` of them.
    turns: exchanges of a record that are read at most, its last ones; earlier ones stand before the question as text.
      1: records of one exchange only.
  """

  text: Path
  layout: MiniOmniLayout
  hearing: RecordingLayout
  sources: tuple[Source, ...]
  rows: int
  length: int
  recordings: int
  quarantine: Path
  seed: int
  pad_weight: float = 1.0
  cache_bytes: int = 0
  max_bad_share: float = 0.01
  codec: str = added("snac")
  styles: bool = added(False)
  turns: int = added(1)

  def __post_init__(self):
    strange = [view for source in self.sources for view in source.views if view not in TASKS_OF_VIEWS]
    sizes = min(self.rows, self.length - 1, self.turns) >= 1 and min(self.recordings, self.pad_weight) >= 0
    if not self.sources or strange or not sizes:
      raise UserError(
        f"{self.rows} rows of {self.length} columns and {self.recordings} recordings, {self.turns} turns, "
        f"{len(self.sources)} sources" + (f", views {', '.join(strange)}" if strange else ""),
        where="GridBatches",
        rule=f"at least one source, one turn and one row of two columns; a view is one of {', '.join(TASKS_OF_VIEWS)}",
        remedy="correct the config",
      )

  def open(self) -> grain.IterDataset:
    """Returns endless batches.

    Raises:
      UserError: a set or the tokenizer is missing or has more pieces than the layout; while reading: too many records
        cannot be used.
    """
    reading = self.read_as()
    samples = mix(
      self.sources,
      writer=reading.writer,
      quarantine=quarantines(self.quarantine, max_share=self.max_bad_share),
      lengths={"tokens": self.length, **reading.images.lengths(self.recordings, tokens=self.length)},
      cache_bytes=self.cache_bytes,
      seed=self.seed,
    )
    return pack(samples, rows=self.rows, length=self.length, images=reading.images, pieces=self.recordings)

  def read_as(self) -> Reading:
    """Returns how records are written and laid into rows.

    Raises:
      UserError: the tokenizer is missing or has more pieces than the layout.
    """
    tokenizer = load_tokenizer(self.text)
    if tokenizer.num_pieces > self.layout.num_pieces:
      raise UserError(
        f"a tokenizer of {tokenizer.num_pieces} pieces",
        where=self.text,
        rule=f"the layout has room for {self.layout.num_pieces}",
        remedy="take the tokenizer that the model was made for",
      )
    return Reading(
      lambda source: GridWriter(source, batches=self, tokenizer=tokenizer),
      to_json((tokenizer.fingerprint, self.layout, self.hearing, self.styles, self.turns)),
      Recordings(layout=self.hearing),
      self.recordings,
      lambda: layout_meanings(self.layout, tokenizer),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedGrids(Planned, GridBatches):
  """What a stage of a Mini-Omni reads, in a planned order (`batches.planned`)."""


class GridWriter:
  """Turns the records of one source into samples of several rows."""

  def __init__(self, source: Source, *, batches: GridBatches, tokenizer: TextTokenizer):
    """Keeps what is the same for every record."""
    self._source, self._batches, self._tokenizer = source, batches, tokenizer
    self._recordings, self._task = Recordings(layout=batches.hearing), TASKS_OF_VIEWS[source.view]

  def __call__(self, example: Example, *, hear_style: bool) -> Sample:
    """Returns the sample of `example`.

    Args:
      example: the record.
      hear_style: whether the style of a spoken answer is asked for, where these batches do so.

    Raises:
      UserError: the record lacks what the task needs.
    """
    return self.sample(self.measure(example, hear_style=hear_style).grid, self._recordings.read(self.shown(example)))

  def shown(self, example: Example) -> list[bytes]:
    """Returns the recording of the turn that is heard, if the task hears one.

    Raises:
      UserError: that turn has no sound.
    """
    return [_audio(self._exchanges(example)[-1][0])] if self._task.hears else []

  def measure(self, example: Example, *, hear_style: bool) -> Size:
    """Returns how long the sample is, and its grid, without decoding its recording; arguments as of the sample.

    Raises:
      UserError: as the sample itself, unless only the samples of its recording are damaged.
    """
    task, layout = self._task, self._batches.layout
    *past, (asked, answer) = self._exchanges(example)
    shown = self.shown(example)
    places, pieces = self._recordings.measure(shown)
    codes = _codes(answer, layout) if task.speaks else None
    styled = hear_style and self._batches.styles and task.speaks
    grid = layout.sample(
      task,
      text=() if task.hears else self._tokenizer.encode(asked.text),
      num_frames=sum(places),
      answer=self._tokenizer.encode(answer.text),
      codes=codes,
      style=turn_style(answer.style or answer.heard, answer, "style") if styled else None,
      past=[(self._tokenizer.encode(user.text), self._tokenizer.encode(reply.text)) for user, reply in past],
    )
    return Size(grid, len(grid) - 1, len(shown), pieces, sum(places), 0 if codes is None else codes.size)

  def sample(self, grid: Grid, pictures: Pictures) -> Sample:
    """Returns the sample of a grid and the recording in it.

    Raises:
      UserError: it is of another length than its head states.
    """
    layout, heard = self._batches.layout, sum(pictures.places)
    places = int((grid.tokens[0] == layout.text_size + layout.place).sum())
    if heard != places:
      raise _lacks(f"sound of {heard} vectors, {places} by its head", "a recording is as long as it says")
    targets = columns_first(entries(grid.tokens[:, 1:], layout.rows))
    return shifted(
      grid, targets=targets, weights=self._weights(targets), kinds=np.int8(self._task.value), images=pictures.arrays
    )

  def _exchanges(self, example: Example) -> list[tuple[Turn, Turn]]:
    """Returns who asks and who answers, earlier turns first; recognition and synthesis have one turn that is both."""
    if self._task is Task.A1T1:
      return [(example.turns[0], example.turns[0])]
    if self._task is Task.T1A1:
      return [(example.turns[-1], example.turns[-1])]
    most = self._batches.turns
    return [exchange(example)] if most == 1 else exchanges(example)[-most:]

  def _weights(self, targets: np.ndarray) -> np.ndarray:
    """Returns the weight of each target, float32 [T, R]."""
    layout, source = self._batches.layout, self._source
    weights = np.full(targets.shape, source.unit_weight, np.float32)
    weights[targets == layout.audio_mark("pad")] *= self._batches.pad_weight
    weights[:, -1] = source.text_weight
    return weights


def _audio(turn: Turn) -> bytes:
  if not turn.audio:
    raise _lacks(f"turn {turn.text!r} without sound", "what is heard has sound")
  return turn.audio


def _codes(turn: Turn, layout: MiniOmniLayout) -> np.ndarray:
  frames, rest = divmod(len(turn.units), layout.num_layers)
  if rest or not frames:
    raise _lacks(
      f"turn {turn.text!r} with {len(turn.units)} codes", f"speech has whole frames of {layout.num_layers} codes"
    )
  return np.asarray(turn.units).reshape(frames, layout.num_layers)


def _lacks(what: str, rule: str) -> UserError:
  return UserError(what, where="record", rule=rule, remedy="run `omni encode --codec`, or choose another view or set")
