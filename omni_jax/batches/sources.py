"""Records -> samples: which side of a record is asked and which is learned (its view), and its image's arrays.

One record serves several views: a recording is a recognition sample and a synthesis sample, a spoken dialogue also a
written question with a spoken answer.

| view             | the user gives               | the model learns                                     |
| ---------------- | ---------------------------- | ---------------------------------------------------- |
| `text`           | text (nothing: one turn)     | text                                                 |
| `image_text`     | image, text if there is any  | text                                                 |
| `recognise`      | speech                       | its transcript                                       |
| `synthesise`     | text and a style             | units                                                |
| `dialogue`       | speech, image if there is one| style, transcript, text and units                    |
| `spoken_reply`   | text, image if there is one  | style, text and units                                |
| `written_reply`  | speech, image if there is one| transcript and text (JSON layout: text alone)        |
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from omni_jax.batches.pictures import SEGMENTS, Image, Pictures, TileSize, packed
from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.prepare.images import Patches, PatchLayout, decode_image, patchify
from omni_jax.prepare.schema import Example, Turn
from omni_jax.tokens.answers import Reply
from omni_jax.tokens.dialogue import Dialogue, Question
from omni_jax.tokens.grid import Grid, truncate
from omni_jax.tokens.units import reduce_units
from omni_jax.tokens.vocabulary import UNIT


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """One set seen in one way.

  Attributes:
    folder: the record set.
    split: of the set.
    view: a name in VIEWS.
    weight: share of the samples of a mixture, relative to the other sources.
    voices: only records whose last turn is in one of these voices; none named: all records.
    style_dropout: share of samples without the heard style of the user's speech.
    text_weight: weight of text and style targets in the loss.
    unit_weight: weight of unit targets; below 1 where many units would drown a few words.
  """

  folder: Path
  split: str
  view: str
  weight: float
  voices: tuple[str, ...] = ()
  style_dropout: float = 0.0
  text_weight: float = 1.0
  unit_weight: float = 1.0

  def __post_init__(self):
    if self.view not in VIEWS:
      raise _bad(f"unknown view {self.view!r}", f"a view is one of {', '.join(VIEWS)}", self)
    if not self.weight > 0 or min(self.text_weight, self.unit_weight) < 0:
      raise _bad("a weight below zero, or no weight", "weight > 0, text_weight and unit_weight >= 0", self)
    if not 0 <= self.style_dropout <= 1:
      raise _bad(f"style_dropout {self.style_dropout}", "a share between 0 and 1", self)


NO_PATCH = -1  # row and column of a place that only fills a window up


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageSize:
  """How images are cut for a tower of any resolution; equal to its `patch` and `merge`.

  Attributes:
    patch: side of a patch in pixels.
    merge: side of a merge cell in patches; one cell is one token.
    min_pixels: smaller images are enlarged to about this area.
    max_pixels: larger images are reduced to at most this area.
    window: patches that each image is padded to, at least as many as `max_pixels` makes, so that it fills a window of
      its own (see `models.emova`); 0: images lie side by side in one window.
  """

  patch: int
  merge: int
  min_pixels: int
  max_pixels: int
  window: int = 0

  def __post_init__(self):
    largest = self.max_pixels // self.patch**2
    if self.window and (self.window < largest or self.window % self.merge**2):
      raise UserError(
        f"windows of {self.window} patches",
        where="ImageSize",
        rule=f"an image of up to {largest} patches fits into a window of whole cells, {self.merge**2} patches each",
        remedy="raise window, or lower max_pixels",
      )

  @property
  def image_layout(self) -> PatchLayout:
    """What the model reads, equal to its own `image_layout`."""
    return PatchLayout(patch=self.patch, merge=self.merge)

  @property
  def unit(self) -> int:
    """Patches of a row are a multiple of this: a window or a merge cell."""
    return self.window or self.merge**2

  def read(self, images: Sequence[Image]) -> Pictures:
    """Returns the patches of images of any number, each filling its windows.

    Raises:
      UserError: bytes that are no image, or an image too long and thin.
    """
    patches, positions = [np.zeros((0, self.patch**2 * 3), np.uint8)], [np.zeros((0, 2), np.int32)]
    places = []
    for image in images:
      own = self._cut(image)
      padding = ((0, -len(own.patches) % self.window if self.window else 0), (0, 0))
      patches.append(np.pad(own.patches, padding))
      positions.append(np.pad(own.positions, padding, constant_values=NO_PATCH))
      places.append(len(own.patches) // self.merge**2)
    return Pictures(tuple(places), {"patches": np.concatenate(patches), "patch_positions": np.concatenate(positions)})

  def lengths(self, pieces: int, *, tokens: int) -> dict[str, int]:
    """Returns the length of each array in a row of so many patches."""
    return {"patches": pieces, "patch_positions": pieces}

  def finished(self, row: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the patches of a packed row in windows, with the number of their image in the row."""
    return self._in_windows(row, window=self.window or len(row["patches"]))

  def row(self, pictures: Pictures) -> dict[str, np.ndarray]:
    """Returns what the model reads of one prompt, in one window; the number of patches is one of few."""
    row = packed(pictures, {"patches": (64, 0), "patch_positions": (64, NO_PATCH)})
    return self._in_windows(row, window=len(row["patches"]))

  def _in_windows(self, row: Mapping[str, np.ndarray], *, window: int) -> dict[str, np.ndarray]:
    positions = row["patch_positions"]
    is_patch = (row["patches" + SEGMENTS] > 0) & (positions[:, 0] != NO_PATCH)
    is_first = is_patch & ~positions.any(axis=1)  # every image begins with row 0, column 0
    arrays = {
      "patches": row["patches"],
      "patch_positions": np.where(is_patch[:, None], positions, 0),
      "patch_segment_ids": np.where(is_patch, np.cumsum(is_first), 0).astype(np.int32),
    }
    return {name: array.reshape(-1, window, *array.shape[1:]) for name, array in arrays.items()}

  def _cut(self, image: Image) -> Patches:
    pixels = decode_image(image) if isinstance(image, bytes) else image
    return patchify(pixels, patch=self.patch, merge=self.merge, min_pixels=self.min_pixels, max_pixels=self.max_pixels)


class Sample(NamedTuple):
  """One packed piece: `targets[t]` is what position t predicts, of kind `target_kind[t]`, weighing `loss_mask[t]`."""

  tokens: np.ndarray  # int32 [T]
  positions: np.ndarray  # int32 [T]
  branch_ids: np.ndarray  # int32 [T]
  targets: np.ndarray  # int32 [T]
  loss_mask: np.ndarray  # float32 [T]
  target_kind: np.ndarray  # int8 [T]
  images: dict[str, np.ndarray]  # the arrays of its `Pictures`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
  """What a view needs besides the record: the writer, the tokens its image takes, and whether styles are heard."""

  dialogue: Dialogue
  image_tokens: int
  hear_style: bool

  def written(self, turn: Turn) -> Question:
    """Returns the typed question of a turn."""
    return Question(text=turn.text, image_tokens=self.image_tokens)

  def spoken(self, turn: Turn) -> Question:
    """Returns the spoken question of a turn."""
    style = _style(turn.heard, turn, "heard") if self.hear_style else None
    return Question(image_tokens=self.image_tokens, units=_units(turn), style=style)

  def turns(self, example: Example) -> list[tuple["Scene", Turn, Turn]]:
    """Returns the exchanges of a conversation, each with what it may ask of: images are in front of the first."""
    later = dataclasses.replace(self, image_tokens=0)
    return [(later if number else self, *pair) for number, pair in enumerate(_pairs(example))]


class Writer:
  """Turns the records of one source into samples."""

  def __init__(self, source: Source, *, dialogue: Dialogue, images: ImageSize | TileSize, length: int | None = None):
    """Keeps what is the same for every record; a sample is cut after `length` tokens if given."""
    self._source, self._dialogue, self._images, self._length = source, dialogue, images, length
    self._kinds = dialogue.vocabulary.kinds()

  def __call__(self, example: Example, *, hear_style: bool) -> Sample:
    """Returns the sample of `example`.

    Raises:
      UserError: the record lacks what the view needs, or nothing to learn is left before the cut.
    """
    shown = [example.image] if example.image else []
    pictures = self._images.read(shown)
    scene = Scene(dialogue=self._dialogue, image_tokens=sum(pictures.places), hear_style=hear_style)
    grid = VIEWS[self._source.view](example, scene)
    if self._length is not None and len(grid) > self._length + 1:
      grid, kept = self._cut(grid, pictures.places)
      pictures = self._images.read(shown[:kept])
    row, targets = grid.row, grid.row[1:]
    kinds = self._kinds[targets]
    weights = np.where(kinds == UNIT, self._source.unit_weight, self._source.text_weight).astype(np.float32)
    mask = np.where(grid.learned[0, 1:], weights, np.float32(0))
    read = (row[:-1], grid.positions[:-1], grid.branches[:-1])
    return Sample(*read, targets, mask, np.where(mask > 0, kinds, np.int8(0)), pictures.arrays)

  def _cut(self, grid: Grid, places: Sequence[int]) -> tuple[Grid, int]:
    """Returns what fits a row, and how many images are in it; an image is whole or left out with what follows."""
    assert self._length is not None
    columns = np.flatnonzero(grid.row == self._dialogue.vocabulary.control("image"))
    ends = np.cumsum(places)
    kept = int((ends <= (columns < self._length).sum()).sum())  # the last column of the cut is a target only
    whole = int(ends[kept - 1]) if kept else 0
    # Only what follows an image sees it: without its first places the loss is that of the release, which keeps them.
    split = len(columns) > whole and columns[whole] <= self._length
    cut = truncate(grid, int(columns[whole]) if split else self._length + 1)
    if not cut.learned[0, 1:].any():
      raise UserError(
        f"nothing to learn in the first {self._length} of {len(grid) - 1} tokens",
        where="record",
        rule="some of an answer is left where a sample is cut",
        remedy="raise the row length, or shorten the record",
      )
    return cut, kept


def _text(example: Example, scene: Scene) -> Grid:
  if len(example.turns) == 1:
    return scene.dialogue.document(example.turns[0].text)
  return _image_text(example, scene)


def _image_text(example: Example, scene: Scene) -> Grid:
  pairs = [(now.written(user), Reply(text=answer.text)) for now, user, answer in scene.turns(example)]
  return scene.dialogue.conversation(pairs)


def _annotations(example: Example, scene: Scene) -> Grid:
  pairs = [(scene.written(user), Reply(text=answer.text)) for user, answer in _pairs(example)]
  return scene.dialogue.annotations(pairs)


def _recognise(example: Example, scene: Scene) -> Grid:
  turn = example.turns[0]
  return scene.dialogue.recognition(scene.spoken(turn), turn.text)


def _synthesise(example: Example, scene: Scene) -> Grid:
  turn = example.turns[-1]
  return scene.dialogue.synthesis(turn.text, _style(turn.style or turn.heard, turn, "style"), _units(turn))


def _dialogue(example: Example, scene: Scene) -> Grid:
  pairs = [(now.spoken(user), _spoken_answer(answer, heard=user)) for now, user, answer in scene.turns(example)]
  return scene.dialogue.conversation(pairs)


def _spoken_reply(example: Example, scene: Scene) -> Grid:
  pairs = [(now.written(user), _spoken_answer(answer, heard=None)) for now, user, answer in scene.turns(example)]
  return scene.dialogue.conversation(pairs)


def _written_reply(example: Example, scene: Scene) -> Grid:
  pairs = [
    (now.spoken(user), Reply(text=answer.text, heard_text=user.text)) for now, user, answer in scene.turns(example)
  ]
  return scene.dialogue.conversation(pairs)


VIEWS: dict[str, Callable[[Example, Scene], Grid]] = {
  "text": _text,
  "image_text": _image_text,
  "annotations": _annotations,
  "recognise": _recognise,
  "synthesise": _synthesise,
  "dialogue": _dialogue,
  "spoken_reply": _spoken_reply,
  "written_reply": _written_reply,
}


def _spoken_answer(turn: Turn, *, heard: Turn | None) -> Reply:
  return Reply(
    text=turn.text,
    style=_style(turn.style or turn.heard, turn, "style"),
    units=_units(turn),
    heard_text=heard.text if heard else "",
    heard_style=Style.parse(heard.heard) if heard and heard.heard else None,
  )


def _pairs(example: Example) -> list[tuple[Turn, Turn]]:
  users, answers = example.turns[0::2], example.turns[1::2]
  roles = [turn.role for turn in example.turns]
  if len(users) != len(answers) or set(roles[0::2]) != {"user"} or set(roles[1::2]) != {"assistant"}:
    raise _lacks(f"turns of {', '.join(roles)}", "user and assistant take turns, the assistant last")
  return list(zip(users, answers, strict=True))


def _units(turn: Turn) -> np.ndarray:
  if not len(turn.units):
    raise _lacks(f"turn {turn.text!r} without units", "speech was encoded to units")
  return reduce_units(turn.units)[0]


def _style(name: str, turn: Turn, field: str) -> Style:
  if not name:
    raise _lacks(f"turn {turn.text!r} without {field}", "the record says the style of its speech")
  return Style.parse(name)


def _lacks(what: str, rule: str) -> UserError:
  return UserError(what, where="record", rule=rule, remedy="run `omni encode`, or choose another view or set")


def _bad(what: str, rule: str, source: Source) -> UserError:
  return UserError(what, where=f"source {source.folder} ({source.view})", rule=rule, remedy="correct the config")
