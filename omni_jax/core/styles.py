"""A speaking style: gender x emotion x pitch, EMOVA's twenty-four (arXiv 2409.18042, section 3.1).

Written `female-happy-high` in records, flags and reports; in the vocabulary each part is a token of its own.
"""

import dataclasses
import itertools

from omni_jax.core.errors import UserError

GENDERS = ("female", "male")
EMOTIONS = ("neutral", "happy", "sad", "angry")
PITCHES = ("low", "normal", "high")


@dataclasses.dataclass(frozen=True, order=True)
class Style:
  """One of the twenty-four styles."""

  gender: str
  emotion: str
  pitch: str

  def __post_init__(self):
    for part, allowed in (("gender", GENDERS), ("emotion", EMOTIONS), ("pitch", PITCHES)):
      if getattr(self, part) not in allowed:
        raise UserError(
          f"unknown {part} {getattr(self, part)!r}",
          where="style",
          rule=f"{part} is one of {', '.join(allowed)}",
          remedy="write gender-emotion-pitch, for example female-happy-high",
        )

  def __str__(self) -> str:
    return f"{self.gender}-{self.emotion}-{self.pitch}"

  @classmethod
  def parse(cls, text: str) -> "Style":
    """Returns the style written as `gender-emotion-pitch`."""
    parts = text.split("-")
    if len(parts) != 3:
      raise UserError(
        f"cannot read style {text!r}",
        where="style",
        rule="a style is gender-emotion-pitch",
        remedy="for example female-happy-high",
      )
    return cls(*parts)

  @property
  def indices(self) -> tuple[int, int, int]:
    """The places of gender, emotion and pitch in GENDERS, EMOTIONS and PITCHES."""
    return GENDERS.index(self.gender), EMOTIONS.index(self.emotion), PITCHES.index(self.pitch)

  @classmethod
  def from_indices(cls, gender: int, emotion: int, pitch: int) -> "Style":
    """Returns the style at these places."""
    return cls(GENDERS[gender], EMOTIONS[emotion], PITCHES[pitch])


ALL_STYLES = tuple(Style(*parts) for parts in itertools.product(GENDERS, EMOTIONS, PITCHES))
