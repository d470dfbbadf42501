"""The 126 ways EMOVA's unit-to-speech model speaks: strings such as
`gender-female_emotion-happy_speed-normal_pitch-high`, and the vector of each.

A vector is the centroid of what the voice encoder makes of recordings in that style. EMOVA lists its files gender
outermost, then emotion, speed and pitch, each in alphabetical order; its Hugging Face tokenizer holds them as rows of
`style_embedding.weight`, by `u2s_style2idx` of its config. How it averaged is not published: we average and scale to
length one, which every vector of the voice encoder has.
"""

import dataclasses
import difflib
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style

GENDERS = ("female", "male")
EMOTIONS = ("angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")
SPEEDS = ("fast", "normal", "slow")
PITCHES = ("high", "low", "normal")

CONDITIONS = tuple(
  f"gender-{gender}_emotion-{emotion}_speed-{speed}_pitch-{pitch}"
  for gender, emotion, speed, pitch in itertools.product(GENDERS, EMOTIONS, SPEEDS, PITCHES)
)


def condition_of(style: Style, *, speed: str = "normal") -> str:
  """Returns the condition string of a style; styles do not tell the speed."""
  condition = f"gender-{style.gender}_emotion-{style.emotion}_speed-{speed}_pitch-{style.pitch}"
  check_condition(condition, CONDITIONS)
  return condition


def check_condition(condition: str, known: Sequence[str]) -> None:
  """Raises a UserError, which names the nearest ones, if `condition` is none of the `known` ones."""
  if condition in known:
    return
  near = difflib.get_close_matches(condition, known, n=3, cutoff=0.0)
  raise UserError(
    f"unknown condition {condition!r}",
    where="unit-to-speech",
    rule=f"a condition is one of {len(known)}, each gender-G_emotion-E_speed-S_pitch-P",
    remedy=f"for example {', '.join(near)}" if near else "load or compute the vectors of some conditions first",
  )


@dataclasses.dataclass(frozen=True, eq=False)
class Centroids:
  """The vectors of conditions, [number, G] in the order of their names."""

  names: tuple[str, ...]
  vectors: np.ndarray

  def __post_init__(self):
    shape = np.shape(self.vectors)
    if len(shape) != 2 or shape[0] != len(self.names) or not np.isfinite(self.vectors).all():
      raise UserError(
        f"vectors of shape {shape} for {len(self.names)} conditions, finite: {bool(np.isfinite(self.vectors).all())}",
        where="centroids of conditions",
        rule="there is one row of numbers for each condition",
        remedy="take names and vectors from the same release",
      )
    if len(set(self.names)) != len(self.names):
      raise UserError(
        "a condition is named twice",
        where="centroids of conditions",
        rule="every condition has one vector",
        remedy="remove one of them",
      )

  @classmethod
  def of_release(cls, vectors: np.ndarray, places: Mapping[str, int] | None = None) -> "Centroids":
    """Returns the centroids of a released table, by its own index (`u2s_style2idx`) or in the order of its files."""
    places = dict(zip(CONDITIONS, range(len(CONDITIONS)), strict=True)) if places is None else places
    outside = [name for name, row in places.items() if not 0 <= row < len(vectors)]
    if outside:
      raise UserError(
        f"{outside[0]} is row {places[outside[0]]} of {len(vectors)}",
        where="centroids of conditions",
        rule="the index of the release points into its table",
        remedy="take index and table from the same release",
      )
    return cls(tuple(places), np.asarray(vectors, np.float32)[list(places.values())])

  @classmethod
  def of_corpus(cls, vectors: np.ndarray, conditions: Sequence[str]) -> "Centroids":
    """Returns the centroid of each condition that occurs, of length one.

    Args:
      vectors: one for each recording, by the voice encoder, [recordings, G].
      conditions: of each recording.

    Raises:
      UserError: no recording, an unknown condition, or vectors that cancel each other.
    """
    if not len(conditions) or len(vectors) != len(conditions):
      raise UserError(
        f"{len(vectors)} vectors and {len(conditions)} conditions",
        where="centroids of conditions",
        rule="every recording has one vector and one condition, and there is at least one",
        remedy="give the conditions of the recordings that were encoded",
      )
    for condition in conditions:
      check_condition(condition, CONDITIONS)
    names = tuple(name for name in CONDITIONS if name in set(conditions))
    rows = np.array(conditions)
    means = np.stack([np.asarray(vectors, np.float64)[rows == name].mean(0) for name in names])
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    if not (lengths > 1e-6).all():
      raise UserError(
        f"the vectors of {names[int(lengths.argmin())]} cancel each other",
        where="centroids of conditions",
        rule="recordings of one condition have something in common",
        remedy="check the labels of the recordings",
      )
    return cls(names, (means / lengths).astype(np.float32))

  def vector(self, condition: str) -> np.ndarray:
    """Returns the vector of a condition, float32 [G].

    Raises:
      UserError: it has none here.
    """
    check_condition(condition, self.names)
    return np.asarray(self.vectors[self.names.index(condition)], np.float32)
