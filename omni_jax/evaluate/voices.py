"""How good a trained vocoder is, on speech it was not trained on, whatever kind it is.

mel distance      of what the stage's own imitation makes, beside that of a fresh draw of the model
unit error        units heard in what it says, against those it was given (by the tokenizer that made them)
durations         length of what it says over that of the recording
word error rate   by the independent recogniser, against that of the recordings
first sound       seconds until a stream gives samples, and CPU seconds for each second of sound
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from omni_jax.batches.spoken import SpokenSets, spoken_turns
from omni_jax.core.styles import Style
from omni_jax.evaluate import recogniser, scores
from omni_jax.evaluate.scores import Errors, Score
from omni_jax.prepare.audio import SAMPLE_RATE, decode_audio
from omni_jax.tokens.units import reduce_units
from omni_jax.train.adversarial import Adversarial


@dataclasses.dataclass(frozen=True)
class Utterance:
  """What was said: words, style, reduced units, and the recording."""

  text: str
  style: Style
  units: np.ndarray
  recording: np.ndarray


class Latency(NamedTuple):
  """Wall seconds to the first samples of a stream, CPU seconds for one of sound, seconds of sound, medians."""

  first_seconds: float
  cpu_per_second: float
  sound_seconds: float


def held_out(sets: SpokenSets, *, split: str, limit: int, seed: int = 0) -> list[Utterance]:
  """Returns up to `limit` utterances of a split of the sets, drawn by `seed`.

  Raises:
    UserError: no utterance of these voices, or a set and its encoded twin differ.
  """
  wanted = {name: getattr(sets, name) for name in ("corpus", "units", "voices")}
  found = spoken_turns(SpokenSets(**wanted, split=split), frames_per_unit=1)
  chosen = sorted(np.random.default_rng(seed).permutation(len(found))[:limit].tolist())
  return [
    Utterance(one.turn.text, Style.parse(one.turn.style), said.units, decode_audio(one.audio()))
    for one, said in (found[place] for place in chosen)
  ]


def distances(loss: Adversarial, model: Any, batches: Iterable[dict[str, np.ndarray]]) -> dict[str, Score]:
  """Returns each distance of the loss between what the model makes of a batch and the recording, over batches."""

  @jax.jit
  def measure(model: Any, batch: dict[str, Any], key: Any) -> dict[str, Any]:
    made = loss.imitate(model, batch, key)
    return {name: distance(made.waveform, made.target) for name, _, distance in loss.losses.distances}

  rows = [measure(model, batch, jax.random.key(number)) for number, batch in enumerate(batches)]
  return {name: scores.mean([float(row[name]) for row in rows]) for name in rows[0]}


def unit_errors(utterances: Sequence[Utterance], spoken: Sequence[np.ndarray], tokenizer: Any) -> Errors:
  """Returns how the units heard in what was said differ from those given, both reduced."""
  heard = [reduce_units(row)[0] for row in tokenizer.encode_batch(list(spoken))]
  given = [list(map(str, utterance.units)) for utterance in utterances]
  return scores.phone_errors(given, [list(map(str, row)) for row in heard])


def lengths(utterances: Sequence[Utterance], spoken: Sequence[np.ndarray], *, sample_rate: int) -> Score:
  """Returns the seconds of what was said over those of the recordings."""
  own = [len(waveform) / sample_rate for waveform in spoken]
  return scores.ratio(own, [len(utterance.recording) / SAMPLE_RATE for utterance in utterances])


def word_errors(
  utterances: Sequence[Utterance], spoken: Sequence[np.ndarray], *, workers: int
) -> tuple[Errors, Errors, Score]:
  """Returns errors of the recordings, of what was said, and the difference, as the independent recogniser hears them.

  Raises:
    UserError: pocketsphinx is not installed.
  """
  texts = [utterance.text for utterance in utterances]
  original, own = (
    scores.word_errors(texts, recogniser.transcribe(list(sounds), workers=workers))
    for sounds in ([utterance.recording for utterance in utterances], spoken)
  )
  return original, own, scores.paired_difference(original, own)


def latency(utterances: Sequence[Utterance], stream: Callable[[Style], Any], *, sample_rate: int) -> Latency:
  """Returns the times of streams that are given one unit after the other; the first utterance only compiles."""
  rows = []
  for utterance in [utterances[0], *utterances]:
    start, cpu, first, samples = time.perf_counter(), time.process_time(), 0.0, 0
    live = stream(utterance.style)
    for place in range(len(utterance.units)):
      piece = live.push(utterance.units[place : place + 1])
      samples += len(piece)
      first = first or (time.perf_counter() - start if len(piece) else 0.0)
    samples += len(live.finish())
    first = first or time.perf_counter() - start
    seconds = samples / sample_rate
    rows.append((first, (time.process_time() - cpu) / seconds, seconds))
  return Latency(*(float(np.median(column)) for column in zip(*rows[1:], strict=True)))
