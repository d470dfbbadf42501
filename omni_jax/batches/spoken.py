"""Utterances with their units: sound from the corpus, units from its encoded twin, record by record."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from omni_jax.batches.sounds import SoundingTurn, sounding
from omni_jax.core.errors import UserError
from omni_jax.prepare.reader import open_set
from omni_jax.prepare.schema import Turn
from omni_jax.tokens.units import reduce_units

FRAMES_PER_UNIT = 4  # of 10 ms


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpokenSets:
  """Where utterances with units are; configs of batches extend it.

  Attributes:
    corpus: folders of record sets with sound.
    units: for each of them the folder of its encoded twin, with units.
    split: of each set.
    voices: only turns of these voices are used (`engine:name`); () uses all.
  """

  corpus: tuple[Path, ...]
  units: tuple[Path, ...]
  split: str
  voices: tuple[str, ...]


class Spoken(NamedTuple):
  """Reduced units, and the frames that each lasts."""

  units: np.ndarray
  counts: np.ndarray


def spoken_turns(sets: SpokenSets, *, frames_per_unit: int | None = None) -> list[tuple[SoundingTurn, Spoken]]:
  """Returns every turn of the wanted voices with its units, each repetition lasting `frames_per_unit`.

  By default durations are those found in encoding, in frames of 10 ms (`spoken`).

  Raises:
    UserError: none is there, or a set and its encoded twin hold different records.
  """
  found = []
  for corpus, units in zip(sets.corpus, sets.units, strict=True):
    sounds, codes = open_set(corpus, sets.split), open_set(units, sets.split)
    for index in range(max(len(sounds), len(codes))):
      heard, coded = (source[index] if index < len(source) else None for source in (sounds, codes))
      if heard is None or coded is None or (heard.id, len(heard.turns)) != (coded.id, len(coded.turns)):
        (name, turns), (other, others) = ((one.id, len(one.turns)) if one else (None, 0) for one in (heard, coded))
        raise UserError(
          f"record {index} is {name!r} in the corpus and {other!r} in the units, of {turns} and {others} turns",
          where=units,
          rule="the units are those of this corpus, in the same order",
          remedy="run `omni encode` again",
        )
      for place, (turn, code) in enumerate(zip(heard.turns, coded.turns, strict=True)):
        if turn.audio and (not sets.voices or turn.voice in sets.voices):
          one = sounding(turn, records=sounds, record=index, place=place)
          found.append((one, spoken(code, frames_per_unit=frames_per_unit)))
  if not found:
    raise UserError(
      "no utterance to train on",
      where=", ".join(map(str, sets.corpus)),
      rule=f"some turns hold sound of {', '.join(sets.voices) or 'any voice'}",
      remedy="make the corpus with one of these voices, or name other voices in the config",
    )
  return found


def spoken(turn: Turn, *, frames_per_unit: int | None = None) -> Spoken:
  """Returns the units of a turn with their durations: those found in encoding, or 40 ms for each repetition.

  Frames are 10 ms then; with `frames_per_unit` every repetition lasts as many frames of whatever length.

  Raises:
    UserError: durations are not one for each reduced unit, or do not add up to the length of the raw units.
  """
  units, runs = reduce_units(turn.units)
  if frames_per_unit is not None:
    return Spoken(units, runs * frames_per_unit)
  frames = turn.unit_frames
  if len(frames) and (len(frames) != len(units) or frames.sum() != runs.sum() * FRAMES_PER_UNIT):
    raise UserError(
      f"{len(frames)} durations, {frames.sum()} frames in all, for {len(units)} reduced units of {runs.sum()} raw ones",
      where=f"turn {turn.text!r}, unit_frames",
      rule=f"one duration for each reduced unit, {FRAMES_PER_UNIT} frames in all for each raw one",
      remedy="delete the folder `units` and run `omni encode` again",
    )
  return Spoken(units, frames if len(frames) else runs * FRAMES_PER_UNIT)
