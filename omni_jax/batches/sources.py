"""Records -> samples: which side of a record is asked and which is learned (its view), and its image as patches.

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
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.prepare.images import Patches, decode_image, patchify
from omni_jax.prepare.schema import Example, Turn
from omni_jax.tokens.answers import Reply
from omni_jax.tokens.dialogue import Dialogue, Question
from omni_jax.tokens.grid import Grid
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
  """How images are cut; equal to the vision tower's `patch` and `merge`.

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

  def cut(self, image: bytes | np.ndarray) -> Patches:
    """Returns patches uint8 [P, C] and their rows and columns int32 [P, 2] of a PNG file's bytes, or of pixels."""
    pixels = decode_image(image) if isinstance(image, bytes) else image
    return patchify(pixels, patch=self.patch, merge=self.merge, min_pixels=self.min_pixels, max_pixels=self.max_pixels)

  @property
  def channels(self) -> int:
    """Values in a patch."""
    return self.patch**2 * 3


class Sample(NamedTuple):
  """One packed piece: `targets[t]` is what position t predicts, of kind `target_kind[t]`, weighing `loss_mask[t]`."""

  tokens: np.ndarray  # int32 [T]
  positions: np.ndarray  # int32 [T]
  branch_ids: np.ndarray  # int32 [T]
  targets: np.ndarray  # int32 [T]
  loss_mask: np.ndarray  # float32 [T]
  target_kind: np.ndarray  # int8 [T]
  patches: np.ndarray  # uint8 [P, C]
  patch_positions: np.ndarray  # int32 [P, 2], NO_PATCH where the window is only filled up


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


class Writer:
  """Turns the records of one source into samples."""

  def __init__(self, source: Source, *, dialogue: Dialogue, images: ImageSize):
    """Keeps what is the same for every record."""
    self._source, self._dialogue, self._images = source, dialogue, images
    self._kinds = dialogue.vocabulary.kinds()

  def __call__(self, example: Example, *, hear_style: bool) -> Sample:
    """Returns the sample of `example`.

    Raises:
      UserError: the record lacks what the view needs.
    """
    if example.image:
      patches, positions = self._images.cut(example.image)
    else:
      patches, positions = np.zeros((0, self._images.channels), np.uint8), np.zeros((0, 2), np.int32)
    image_tokens = len(patches) // self._images.merge**2
    if self._images.window and len(patches):
      padding = ((0, self._images.window - len(patches)), (0, 0))
      patches, positions = np.pad(patches, padding), np.pad(positions, padding, constant_values=NO_PATCH)
    scene = Scene(dialogue=self._dialogue, image_tokens=image_tokens, hear_style=hear_style)
    grid = VIEWS[self._source.view](example, scene)
    row, targets = grid.row, grid.row[1:]
    kinds = self._kinds[targets]
    weights = np.where(kinds == UNIT, self._source.unit_weight, self._source.text_weight).astype(np.float32)
    mask = np.where(grid.learned[0, 1:], weights, np.float32(0))
    read = (row[:-1], grid.positions[:-1], grid.branches[:-1])
    return Sample(*read, targets, mask, np.where(mask > 0, kinds, np.int8(0)), patches, positions)


def _text(example: Example, scene: Scene) -> Grid:
  if len(example.turns) == 1:
    return scene.dialogue.document(example.turns[0].text)
  return _image_text(example, scene)


def _image_text(example: Example, scene: Scene) -> Grid:
  pairs = [(scene.written(user), Reply(text=answer.text)) for user, answer in _pairs(example)]
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
  pairs = [(scene.spoken(user), _spoken_answer(answer, heard=user)) for user, answer in _pairs(example)]
  return scene.dialogue.conversation(pairs)


def _spoken_reply(example: Example, scene: Scene) -> Grid:
  pairs = [(scene.written(user), _spoken_answer(answer, heard=None)) for user, answer in _pairs(example)]
  return scene.dialogue.conversation(pairs)


def _written_reply(example: Example, scene: Scene) -> Grid:
  pairs = [(scene.spoken(user), Reply(text=answer.text, heard_text=user.text)) for user, answer in _pairs(example)]
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
