"""Style asked against style spoken: measured on the waveform, and heard by the style encoder.

Styles are synthetic prosody classes. Thresholds are fitted on training recordings of the voice that answers, then
applied to held-out recordings (the ceiling) and to what the model speaks.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from omni_jax.core.styles import ALL_STYLES, EMOTIONS, GENDERS, PITCHES, Style
from omni_jax.evaluate import prosody, scores
from omni_jax.evaluate.context import Context, sound, style_of
from omni_jax.evaluate.dialogue_tasks import confusion, dialogue_answers
from omni_jax.evaluate.figures import Figure, Goal, Outcome, at_least
from omni_jax.evaluate.prosody import RATE_OF_EMOTION, RATES, Prosody, Reading, Thresholds
from omni_jax.prepare.phonemes import phones
from omni_jax.prepare.schema import Example, Turn

_MEASURED_GOAL = at_least(0.90)
_EMOTION_GOAL = at_least(0.60)
_FEWEST_PHONES = 12  # shorter sentences have no rate to speak of


class Measured(NamedTuple):
  """One utterance: the style asked, its prosody, and the classes read off it; None where a voice has no thresholds."""

  style: Style
  prosody: Prosody
  reading: Reading | None


def style(context: Context) -> Outcome:
  """Returns how well each of the 24 styles, asked of text to speech, can be read off the sound."""
  voices = answering_voices(context)
  fitted = {gender: _thresholds(context, voice) for gender, voice in voices.items()}
  thresholds = {gender: found for gender, found in fitted.items() if found}
  asked, turns, spoken = _speak(context)
  measured = [_measure(*parts, thresholds) for parts in zip(spoken, turns, asked, strict=True)]
  heard = context.system.hear(spoken)
  figures = [
    *_waveform_figures("asked of text to speech, measured on its waveform", measured, with_goals=True),
    *_encoder_figures("asked of text to speech", asked, heard),
    *_waveform_figures("chosen by spoken answers, measured on their waveform", _answers(context, thresholds)),
    *_waveform_figures("of held-out recordings, measured likewise", _recorded(context, voices, thresholds)),
    *_recorded_figures(context),
  ]
  samples = [
    {
      "style": str(asked[row]),
      "text": turns[row].text,
      "measured": measured[row].prosody._asdict(),
      "phones": len(phones_of(turns[row])),
      "read": reading._asdict() if (reading := measured[row].reading) else None,
      "heard": str(heard[row]),
      **({"sound": context.keep_sound(f"style-{asked[row]}", waveform)} if row < len(ALL_STYLES) else {}),
    }
    for row, waveform in enumerate(spoken)
  ]
  return Outcome(
    figures=tuple(figures),
    samples=tuple(samples),
    tables=_tables(measured, heard, voices=voices, thresholds=thresholds),
  )


def answering_voices(context: Context) -> dict[str, str]:
  """Returns for each gender the voice that the recorded answers of the corpus use most."""
  replies = [e.turns[-1] for e in context.examples("dialogue", "train", limit=context.settings.baseline_samples)]
  counts = Counter((style_of(reply).gender, reply.voice) for reply in replies)
  return {
    gender: max((count, voice) for (other, voice), count in counts.items() if other == gender)[1]
    for gender in GENDERS
    if any(other == gender for other, _ in counts)
  }


def _speak(context: Context) -> tuple[list[Style], list[Turn], list[np.ndarray]]:
  """Returns styles, sentences and sounds: the first 24 are each style once, in order."""
  repeats = context.settings.style_repeats
  examples = context.examples("speech", "test", limit=repeats * len(ALL_STYLES), keep=_is_long)
  turns = [examples[row % len(examples)].turns[0] for row in range(repeats * len(ALL_STYLES))]
  asked = list(ALL_STYLES) * repeats
  return asked, turns, context.system.synthesise([turn.text for turn in turns], asked)


def _thresholds(context: Context, voice: str) -> Thresholds | None:
  """Returns the thresholds of a voice, from its training recordings; None where they lack a class (a smoke corpus)."""
  turns = _recordings(context, "train", voice, limit=context.settings.style_training)
  styles = [style_of(turn) for turn in turns]
  if prosody.lacking(styles):
    return None
  advance = context.progress(f"prosody of {voice}", len(turns))
  measured = []
  for turn in turns:
    measured.append(prosody.measure(sound(turn)))
    advance(1)
  return prosody.fit(measured, [phones_of(turn) for turn in turns], styles)


def _measure(waveform: np.ndarray, turn: Turn, asked: Style, thresholds: Mapping[str, Thresholds]) -> Measured:
  found = prosody.measure(waveform)
  limits = thresholds.get(asked.gender)
  return Measured(asked, found, prosody.read(found, phones_of(turn), limits) if limits else None)


def _answers(context: Context, thresholds: Mapping[str, Thresholds]) -> list[Measured]:
  """Returns the assistant's spoken answers, long enough to have a rate, measured against the style they chose."""
  replies = dialogue_answers(context, limit=context.settings.dialogues)
  said = [
    (answer.waveform, Turn("assistant", answer.text), answer.style)
    for _, answer in replies
    if answer.style and len(answer.waveform) and scores.normalise(answer.text)
  ]
  return [_measure(*parts, thresholds) for parts in said if len(phones_of(parts[1])) >= _FEWEST_PHONES]


def _recorded(context: Context, voices: Mapping[str, str], thresholds: Mapping[str, Thresholds]) -> list[Measured]:
  """Returns held-out recordings of the answering voices: what the measurement itself can reach."""
  limit = context.settings.style_training // 2
  turns = [turn for voice in voices.values() for turn in _recordings(context, "test", voice, limit=limit)]
  return [_measure(sound(turn), turn, style_of(turn), thresholds) for turn in turns]


def _recordings(context: Context, split: str, voice: str, *, limit: int) -> list[Turn]:
  """Returns turns that a voice spoke, from readings first and then from recorded answers."""
  turns: list[Turn] = []
  for folder, place in (("speech", 0), ("dialogue", -1)):

    def suits(example: Example, place: int = place) -> bool:
      turn = example.turns[place]
      return turn.voice == voice and len(phones_of(turn)) >= _FEWEST_PHONES

    found = context.examples(folder, split, limit=limit - len(turns), keep=suits)
    turns += [example.turns[place] for example in found]
  return turns


def _recorded_figures(context: Context) -> list[Figure]:
  """Returns what the style encoder hears in held-out recordings."""
  figures: list[Figure] = []
  for split, words in (("test", "seen voices"), ("test_voice", "held-out voice")):
    examples = context.examples("speech", split, limit=context.settings.utterances)
    heard = context.system.hear([sound(example.turns[0]) for example in examples])
    figures += _encoder_figures(f"of recordings ({words})", [style_of(e.turns[0]) for e in examples], heard)
  return figures


def _waveform_figures(source: str, measured: Sequence[Measured], *, with_goals: bool = False) -> list[Figure]:
  """Returns pitch, rate and emotion read off the waveform."""
  rows = [(one.style, one.reading) for one in measured if one.reading]
  parts = (
    ("pitch", "pitch", [asked.pitch for asked, _ in rows], PITCHES, _MEASURED_GOAL),
    ("rate", "rate that the emotion prescribes", [RATE_OF_EMOTION[a.emotion] for a, _ in rows], RATES, _MEASURED_GOAL),
    ("emotion", "emotion (rate and pitch range)", [asked.emotion for asked, _ in rows], EMOTIONS, _EMOTION_GOAL),
  )
  if not rows:
    note = "no utterance long enough, or the corpus has too few recordings of the voice to fit thresholds on"
    return [Figure(name=f"{name} {source}", measure="accuracy", score=None, note=note) for _, name, *_ in parts]
  return [
    _accuracy(f"{name} {source}", truth, [getattr(r, part) for _, r in rows], labels, goal=goal if with_goals else None)
    for part, name, truth, labels, goal in parts
  ]


def _encoder_figures(source: str, asked: Sequence[Style], heard: Sequence[Style]) -> list[Figure]:
  return [
    _accuracy(
      f"{part} {source}, by the style encoder",
      [getattr(one, part) for one in asked],
      [getattr(one, part) for one in heard],
      labels,
    )
    for part, labels in (("gender", GENDERS), ("emotion", EMOTIONS), ("pitch", PITCHES))
  ]


def _accuracy(
  name: str, truth: list[str], given: list[str], labels: Sequence[str], *, goal: Goal | None = None
) -> Figure:
  return Figure(
    name=name,
    measure="accuracy",
    score=scores.mean([one == other for one, other in zip(truth, given, strict=True)]),
    baselines={"chance": 1 / len(labels), "majority": max(truth.count(label) for label in labels) / len(truth)},
    goal=goal,
  )


def _tables(
  measured: Sequence[Measured],
  heard: Sequence[Style],
  *,
  voices: Mapping[str, str],
  thresholds: Mapping[str, Thresholds],
) -> dict[str, Any]:
  def matrix(part: str, labels: Sequence[str], given: Sequence[tuple[Style, Any]], columns: str) -> dict[str, Any]:
    pairs = [(getattr(asked, part), getattr(other, part)) for asked, other in given]
    counts = confusion([asked for asked, _ in pairs], [other for _, other in pairs], labels)
    return {"labels": list(labels), "counts": counts, "columns": columns}

  read = [(one.style, one.reading) for one in measured if one.reading]
  encoder = [(one.style, style) for one, style in zip(measured, heard, strict=True)]
  return {
    "confusion of emotion, waveform": matrix("emotion", EMOTIONS, read, "measured on the waveform"),
    "confusion of emotion, style encoder": matrix("emotion", EMOTIONS, encoder, "heard by the style encoder"),
    "confusion of pitch, waveform": matrix("pitch", PITCHES, read, "measured on the waveform"),
    "thresholds": {
      voices[gender]: {
        "pitch in Hz": [round(value, 1) for value in found.pitch_hz],
        "rate against neutral": [round(value, 2) for value in found.rate],
        "wide range in semitones": round(found.wide_semitones, 2),
      }
      for gender, found in thresholds.items()
    },
  }


def phones_of(turn: Turn) -> list[str]:
  """Returns the phones of what a turn says."""
  return turn.phones.split() if turn.phones else list(phones(turn.text))


def _is_long(example: Example) -> bool:
  return len(phones_of(example.turns[0])) >= _FEWEST_PHONES
