"""Which voices there are and what each is for: the one interface over all engines.

A voice is named `engine:speaker`. Answers always come from one voice for each gender; what the users say comes from
the seen voices, and one voice is heard in no training split at all.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES, PITCHES, Style
from omni_jax.prepare.voices import espeak, flite

_LANGUAGES = {"espeak": espeak.LANGUAGE, "espeak-cmn": espeak.MANDARIN}  # of the engines that espeak-ng is


class Voice(Protocol):
  """A speaker of one gender that says any text in any style."""

  name: str
  gender: str
  language: str  # as espeak-ng names it

  def speak(self, text: str, style: Style) -> np.ndarray:
    """Returns float32 [A] at 16 kHz."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cast:
  """The roles of a corpus.

  Attributes:
    answers: gender -> the one voice that answers.
    seen: gender -> voices of the users, the answering one among them.
    held_out: the voice of no training split.
    held_out_styles: what it can be asked for.
  """

  answers: Mapping[str, str]
  seen: Mapping[str, tuple[str, ...]]
  held_out: str
  held_out_styles: tuple[Style, ...]

  @property
  def answering(self) -> tuple[str, ...]:
    """The voices that answer, and so those that a vocoder learns."""
    return tuple(self.answers.values())


# flite answers; the users are flite's and espeak-ng's.
WITH_FLITE = Cast(
  answers={"female": "flite:slt", "male": "flite:awb"},
  seen={
    "female": ("flite:slt", "espeak:f1", "espeak:f4", "espeak:linda"),
    "male": ("flite:awb", "flite:kal16", "espeak:m3", "espeak:m7"),
  },
  held_out="flite:rms",
  # It sets its own pitch, 0.8 times the male mean, and its own wide range: only these labels are true of its sound.
  held_out_styles=(Style("male", "happy", "low"), Style("male", "sad", "low"), Style("male", "angry", "low")),
)
# For machines without flite; an independent recogniser does not understand it.
ESPEAK_ONLY = Cast(
  answers={"female": "espeak:f1", "male": "espeak:m3"},
  seen={"female": ("espeak:f1", "espeak:f4"), "male": ("espeak:m3", "espeak:m7")},
  held_out="espeak:m1",
  held_out_styles=tuple(style for style in ALL_STYLES if style.gender == "male"),
)

# Mandarin, in the neutral emotion (`EspeakVoice`): speech to recognise, so nobody answers.
MANDARIN = Cast(
  answers={},
  seen={"female": ("espeak-cmn:f1", "espeak-cmn:f4"), "male": ("espeak-cmn:m3", "espeak-cmn:m7")},
  held_out="espeak-cmn:m1",
  held_out_styles=tuple(Style("male", "neutral", pitch) for pitch in PITCHES),
)


def cast() -> Cast:
  """Returns the roles that the engines on this machine can fill."""
  return WITH_FLITE if flite.flite_installed() else ESPEAK_ONLY


@functools.cache
def voice(name: str) -> Voice:
  """Returns the voice `engine:speaker`.

  Raises:
    UserError: no such engine or speaker.
  """
  engine, _, speaker = name.partition(":")
  if engine == "flite" and speaker in flite.SPEAKERS:
    return flite.FliteVoice(speaker)
  if engine in _LANGUAGES and speaker in espeak.SPEAKERS:
    return espeak.EspeakVoice(speaker, language=_LANGUAGES[engine])
  known = [f"flite:{name}" for name in flite.SPEAKERS]
  known += [f"{engine}:{name}" for engine in _LANGUAGES for name in espeak.SPEAKERS]
  raise UserError(
    f"unknown voice {name!r}", where="voice", rule=f"a voice is one of {', '.join(known)}", remedy="choose one of these"
  )


def speak(text: str, style: Style, *, voice_name: str) -> np.ndarray:
  """Returns `text` spoken in `style` by the named voice, float32 [A] at 16 kHz.

  Raises:
    UserError: empty text, a style of the other gender than the voice's, or an unknown voice.
  """
  speaker = voice(voice_name)
  if not text.strip():
    raise UserError("empty text", where=f"voice {voice_name}", rule="there is a word to say", remedy="give a text")
  if speaker.gender != style.gender:
    raise UserError(
      f"style {style} for a {speaker.gender} voice",
      where=f"voice {voice_name}",
      rule="gender is that of the voice",
      remedy=f"use a {speaker.gender} style or another voice",
    )
  return speaker.speak(text, style)
