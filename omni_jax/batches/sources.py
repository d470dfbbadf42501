"""Records -> samples: a source is a set seen in one way (`batches.views`), a sample its tokens and its images."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from omni_jax.batches.pictures import SEGMENTS, Image, Pictures, TileSize, packed
from omni_jax.batches.views import VIEWS, Scene
from omni_jax.core.config import added
from omni_jax.core.errors import UserError
from omni_jax.prepare.images import Patches, PatchLayout, decode_image, image_size, patchify, target_size
from omni_jax.prepare.schema import Example
from omni_jax.tokens.dialogue import Dialogue
from omni_jax.tokens.grid import Grid, truncate
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
    changes: later weights, as (from this step on, weight), in a planned order (`batches.planned`).
    other_views: a sample takes one of `view` and these by chance, in a planned order.
  """

  folder: Path
  split: str
  view: str
  weight: float
  voices: tuple[str, ...] = ()
  style_dropout: float = 0.0
  text_weight: float = 1.0
  unit_weight: float = 1.0
  changes: tuple[tuple[int, float], ...] = added(())
  other_views: tuple[str, ...] = added(())

  def __post_init__(self):
    for view in self.views:
      if view not in VIEWS:
        raise _bad(f"unknown view {view!r}", f"a view is one of {', '.join(VIEWS)}", self)
    if any(step < 1 or not weight >= 0 for step, weight in self.changes):
      raise _bad(f"changes {self.changes}", "pairs of a step above 0 and a weight of 0 or more", self)
    later = any(weight > 0 for _, weight in self.changes)
    if not (self.weight > 0 or (later and self.weight == 0)) or min(self.text_weight, self.unit_weight) < 0:
      raise _bad("a weight below zero, or no weight", "weight > 0, text_weight and unit_weight >= 0", self)
    if not 0 <= self.style_dropout <= 1:
      raise _bad(f"style_dropout {self.style_dropout}", "a share between 0 and 1", self)

  @property
  def views(self) -> tuple[str, ...]:
    """All views of its records."""
    return (self.view, *self.other_views)


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

  def measure(self, images: Sequence[Image]) -> tuple[tuple[int, ...], int]:
    """Returns the places that each image takes and the patches of all, as `read` would, from their sizes alone.

    Raises:
      UserError: bytes that are no image, or an image too long and thin.
    """
    places, pieces = [], 0
    for image in images:
      size = image_size(image) if isinstance(image, bytes) else image.shape[:2]
      factor, bounds = self.patch * self.merge, {"min_pixels": self.min_pixels, "max_pixels": self.max_pixels}
      height, width = target_size(*size, factor=factor, **bounds)
      patches = height * width // self.patch**2
      places.append(patches // self.merge**2)
      pieces += patches + (-patches % self.window if self.window else 0)
    return tuple(places), pieces

  def lengths(self, pieces: int, *, tokens: int) -> dict[str, int]:
    """Returns the length of each array in a row of so many patches."""
    return {"patches": pieces, "patch_positions": pieces}

  def finished(self, row: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the patches of a packed row in windows, with the number of their image in the row."""
    return self._in_windows(row, window=self.window or len(row["patches"]))

  def filled(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns which places for patches hold one, bool [B, W, P]."""
    return batch["patch_segment_ids"] > 0

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
  """One packed piece: `targets[t]` is what position t predicts, of kind `target_kind[t]`, weighing `loss_mask[t]`.

  Where a grid has several rows, what is [T, R] here has them last; of one row it is [T].
  """

  tokens: np.ndarray  # int32 [T, R]
  positions: np.ndarray  # int32 [T]
  branch_ids: np.ndarray  # int32 [T]
  targets: np.ndarray  # int32 [T, R]
  loss_mask: np.ndarray  # float32 [T, R]
  target_kind: np.ndarray  # int8 [T, R]
  images: dict[str, np.ndarray]  # the arrays of its `Pictures`


class Size(NamedTuple):
  """How long a sample is."""

  grid: Grid  # with its last target
  tokens: int
  images: int
  pieces: int  # of its images
  image_tokens: int  # of the tokens, places of its images
  units: int  # of the tokens, units of speech


class SampleWriter(Protocol):
  """Turns the records of one source into samples, at once or in two parts: what is counted, and what is read later."""

  def __call__(self, example: Example, *, hear_style: bool) -> Sample:
    """Returns the sample of a record; raises a UserError where it cannot be used."""
    ...

  def measure(self, example: Example, *, hear_style: bool) -> Size:
    """Returns how long the sample of a record is, and its grid, from the heads of its image or sound."""
    ...

  def shown(self, example: Example) -> list[bytes]:
    """Returns the files of a record that stand in its sample beside tokens: an image, or a recording."""
    ...

  def sample(self, grid: Grid, pictures: Pictures) -> Sample:
    """Returns the sample of a grid and the files in it, read; raises a UserError where they are of another length."""
    ...


def learned(grid: Grid, *, kinds: np.ndarray, source: Source, images: dict[str, np.ndarray]) -> Sample:
  """Returns the sample of a grid whose targets are ids: units weigh `unit_weight`, all else `text_weight`.

  Args:
    grid: with its last target.
    kinds: int8 of each id.
    source: whose weights.
    images: the arrays of its `Pictures`.
  """
  targets = columns_first(grid.tokens[:, 1:])
  own = kinds[targets]
  weights = np.where(own == UNIT, source.unit_weight, source.text_weight).astype(np.float32)
  return shifted(grid, targets=targets, weights=weights, kinds=own, images=images)


def shifted(
  grid: Grid, *, targets: np.ndarray, weights: np.ndarray, kinds: np.ndarray | np.int8, images: dict[str, np.ndarray]
) -> Sample:
  """Returns the sample in which each column of a grid predicts the next one's target.

  Args:
    grid: with its last target.
    targets: of all columns but the first, [T, R] or [T].
    weights: float32 of each, counted where the grid is learned.
    kinds: int8 of each.
    images: the arrays of its `Pictures`.
  """
  mask = np.where(columns_first(grid.learned[:, 1:]), weights, np.float32(0))
  read = (columns_first(grid.tokens[:, :-1]), grid.positions[:-1], grid.branches[:-1])
  return Sample(*read, targets, mask, np.where(mask > 0, kinds, np.int8(0)), images)


def columns_first(rows: np.ndarray) -> np.ndarray:
  """Returns [R, T] as [T, R], and one row as [T]."""
  return rows[0] if len(rows) == 1 else np.ascontiguousarray(rows.T)


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
    size = self.measure(example, hear_style=hear_style)
    return self.sample(size.grid, self._images.read(self.shown(example)[: size.images]))

  def shown(self, example: Example) -> list[bytes]:
    """Returns its image, if it has one."""
    return [example.image] if example.image else []

  def sample(self, grid: Grid, pictures: Pictures) -> Sample:
    """Returns the sample of a grid and the images in it."""
    return learned(grid, kinds=self._kinds, source=self._source, images=pictures.arrays)

  def measure(self, example: Example, *, hear_style: bool) -> Size:
    """Returns how long the sample of `example` is, and its grid, without decoding its image.

    Raises:
      UserError: as the sample itself, unless only the pixels of its image are damaged.
    """
    shown = self.shown(example)
    places, pieces = self._images.measure(shown)
    grid, kept = self._grid(example, places, hear_style=hear_style)
    if kept < len(shown):
      places, pieces = self._images.measure(shown[:kept])
    units = (self._kinds[grid.tokens[:, :-1]] == UNIT).any(axis=0)
    return Size(grid, len(grid) - 1, kept, pieces, sum(places), int(units.sum()))

  def _grid(self, example: Example, places: Sequence[int], *, hear_style: bool) -> tuple[Grid, int]:
    """Returns the sample's grid, cut where it is too long, and how many of its images are in it."""
    scene = Scene(dialogue=self._dialogue, image_tokens=sum(places), hear_style=hear_style)
    grid = VIEWS[self._source.view](example, scene)
    if self._length is None or len(grid) <= self._length + 1:
      return grid, len(places)
    return self._cut(grid, places)

  def _cut(self, grid: Grid, places: Sequence[int]) -> tuple[Grid, int]:
    """Returns what fits a row, and how many images are in it; an image is whole or left out with what follows."""
    assert self._length is not None
    columns = np.flatnonzero(grid.tokens[0] == self._dialogue.vocabulary.control("image"))
    ends = np.cumsum(places)
    kept = int((ends <= (columns < self._length).sum()).sum())  # the last column of the cut is a target only
    whole = int(ends[kept - 1]) if kept else 0
    # Only what follows an image sees it: without its first places the loss is that of the release, which keeps them.
    split = len(columns) > whole and columns[whole] <= self._length
    cut = truncate(grid, int(columns[whole]) if split else self._length + 1)
    if not cut.learned[:, 1:].any():
      raise UserError(
        f"nothing to learn in the first {self._length} of {len(grid) - 1} tokens",
        where="record",
        rule="some of an answer is left where a sample is cut",
        remedy="raise the row length, or shorten the record",
      )
    return cut, kept


def _bad(what: str, rule: str, source: Source) -> UserError:
  return UserError(what, where=f"source {source.folder} ({source.view})", rule=rule, remedy="correct the config")
