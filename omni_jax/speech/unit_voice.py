"""Speaking with a unit-to-speech model: units and a condition -> waveform, whole or piece by piece with equal samples.

The unit encoder sees every unit, so the prior and the durations need the whole unit string; what follows is local:

    units --unit encoder, durations (noise by unit)--> frames of each unit
    frames     |-- context --|== piece ==|-- context --|     noise by absolute frame, nothing outside the utterance
    samples                  |==  final  ==|                  `hop` for each frame of the piece

A piece is computed in a window of static shape, of which every size compiles once (`windows.py`); frames before the
first and after the last count as zero in every layer, as padding does, so the ends of the utterance need no context.
Scales are those of EMOVA's call: noise 0.667, noise of durations 0.8, length 1.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from omni_jax.core.arrays import Key, bucket
from omni_jax.core.config import added
from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.speech.alignment import path_of
from omni_jax.speech.conditions import Centroids, condition_of
from omni_jax.speech.interface import Context, Manner
from omni_jax.speech.spectrogram import VITS_FLOOR, SpectrumConfig, magnitude_numpy
from omni_jax.speech.streams import AtEnd, Stream
from omni_jax.speech.timing import SpeakingTimed
from omni_jax.speech.unit_encoder import Prior
from omni_jax.speech.unit_to_speech import UnitToSpeech, UnitToSpeechConfig
from omni_jax.speech.windows import WindowStream
from omni_jax.tokens.units import check_units

MOST_UNITS = 4096  # attention needs the square of it; EMOVA trained on at most 1000
LONGEST_SECONDS = 60.0  # of one unit on average, at most; a model gone wrong asks for more memory than there is
_WHOLE_PIECE, _SMALLEST = 1024, 32  # frames computed at once by `speak`; least number of units or frames of a shape


@dataclasses.dataclass(frozen=True, kw_only=True)
class Delivery:
  """How units are spoken.

  Attributes:
    noise: deviation of the draws from the prior; 0 speaks its mean.
    duration_noise: deviation of the noise that durations are made of.
    length: factor of all durations; 2 is half as fast.
    seed: of the noise; the same seed gives the same samples.
  """

  noise: float = 0.667
  duration_noise: float = 0.8
  length: float = 1.0
  seed: int = 0

  def __post_init__(self):
    scales = (self.noise, self.duration_noise)
    if not all(math.isfinite(scale) and scale >= 0 for scale in scales) or not 0 < self.length < math.inf:
      raise UserError(
        f"noise {self.noise}, duration_noise {self.duration_noise}, length {self.length}",
        where="delivery",
        rule="scales of noise are at least 0, the factor of durations is above 0, all are finite",
        remedy="0.667, 0.8 and 1 are the usual ones",
      )


class _Compiled(NamedTuple):
  hear: Any
  read: Any
  sound: Any


class Spoken(NamedTuple):
  """What is known of an utterance before it sounds.

  Attributes:
    prior: of every unit, the batch one, padded.
    durations: frames of each unit, int32 [U].
    num_frames: their sum, at least one.
  """

  prior: Prior
  durations: np.ndarray
  num_frames: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitVoiceConfig:
  """A model and the conditions that it has vectors for, as a stage keeps them.

  Attributes:
    model: what speaks.
    conditions: names of the vectors, in order; none for a model without.
    delivery: how units are spoken.
  """

  model: UnitToSpeechConfig
  conditions: tuple[str, ...] = ()
  delivery: Delivery = added(Delivery())

  @property
  def inference(self) -> "UnitVoiceConfig":
    """The same voice with every kernel folded into one array, for `nn.weight_norm.fold_model`."""
    return dataclasses.replace(self, model=self.model.inference)

  def make(self, *, key: Key) -> "UnitVoice":
    """Returns a voice with random weights and vectors of zeros."""
    vectors = np.zeros((len(self.conditions), self.model.condition), np.float32)
    centroids = Centroids(self.conditions, vectors) if self.conditions else None
    return UnitVoice(self.model.make(key=key), centroids=centroids, delivery=self.delivery)


class UnitVoice(SpeakingTimed, nnx.Module):
  """A model with the centroids of its conditions; satisfies `interface.Vocoder`."""

  num_codebooks = 1

  def __init__(self, model: UnitToSpeech, *, centroids: Centroids | None = None, delivery: Delivery | None = None):
    """Keeps the parts; `model` should be folded (`nn.weight_norm.fold_model`), which speaks faster.

    Raises:
      UserError: the centroids are of another width than the model's condition.
    """
    self.model, self.delivery = model, delivery or Delivery()
    self.conditions = centroids.names if centroids is not None else ()
    if centroids is not None and centroids.vectors.shape[1] != model.config.condition:
      raise UserError(
        f"centroids of width {centroids.vectors.shape[1]}",
        where="unit-to-speech",
        rule=f"the model's condition has width {model.config.condition}",
        remedy="take model and centroids from the same release",
      )
    self.styles = None if centroids is None else nnx.Param(jnp.asarray(centroids.vectors), axes=(None, None))

  @property
  def config(self) -> UnitVoiceConfig:
    """What a stage keeps of it beside the weights."""
    return UnitVoiceConfig(model=self.model.config, conditions=self.conditions, delivery=self.delivery)

  @property
  def centroids(self) -> Centroids | None:
    """The vectors of the conditions."""
    return None if self.styles is None else Centroids(self.conditions, np.asarray(self.styles[...]))

  @property
  def sample_rate(self) -> int:
    """Samples per second of the waveforms it makes."""
    return self.model.config.sample_rate

  @property
  def hop(self) -> int:
    """Samples of a frame."""
    return self.model.config.decoder.hop

  @property
  def codebook_size(self) -> int:
    """The number of different units."""
    return self.model.config.codebook_size

  @property
  def context(self) -> Context:
    """What the sound of a unit depends on: all units, then frames on both sides."""
    around = self.model.config.context
    return Context(units_before=None, units_after=None, frames_before=around, frames_after=around)

  def decode(self, units: np.ndarray, style: Manner = None) -> np.ndarray:
    """Returns the waveform, float32 [A], of reduced units [U] in a style at normal speed, or in a condition by name."""
    return self.speak(units, _condition(style))

  def seconds(self, units: Sequence[np.ndarray], styles: Sequence[Style]) -> list[float]:
    """Returns how long `decode` makes each row of reduced units [U]."""
    conditions = [self._vector(_condition(style)) for style in styles]
    frames = [
      self.plan(row, vector).num_frames if len(row) else 0 for row, vector in zip(units, conditions, strict=True)
    ]
    return [number / self.frame_rate for number in frames]

  def stream(self, style: Manner = None) -> Stream:
    """Returns a stream that speaks once all units are known: the encoder sees them all (`pieces` is sooner)."""
    condition = _condition(style)
    self._vector(condition)  # an unknown one is told before the units come
    return Stream(
      [AtEnd(lambda units: self.speak(units, condition))],
      check=functools.partial(check_units, codebook_size=self.codebook_size),
      empty=np.zeros(0, np.float32),
    )

  def speak(self, units: np.ndarray, condition: str | np.ndarray | None = None) -> np.ndarray:
    """Returns the waveform, float32 [A], of reduced units [U].

    Args:
      units: ids of one utterance.
      condition: a condition string, a vector [G], or None for no condition at all, as EMOVA evaluates.

    Raises:
      UserError: no units, too many, ids out of range, an unknown condition, or durations that are no numbers.
    """
    return np.concatenate(list(self.pieces(units, condition, piece_frames=_WHOLE_PIECE)))

  def hear(self, waveform: np.ndarray) -> np.ndarray:
    """Returns the condition of a recording's own voice, float32 [G] of length one, from a waveform at `sample_rate`.

    `Centroids.of_corpus` makes the conditions of styles of many.

    Raises:
      UserError: the model has no voice encoder, or the recording cannot be analysed.
    """
    config = self.model.config
    if config.voice is None:
      raise UserError(
        "this model hears no voices",
        where="unit-to-speech",
        rule="conditions of recordings come from a voice encoder",
        remedy="use a model that has one, such as EMOVA's, or its table of speakers",
      )
    size = 2 * (config.voice.bins - 1)
    analysis = SpectrumConfig(fft_size=size, hop_samples=self.hop, window_samples=size)
    frames = magnitude_numpy(waveform, analysis, floor=VITS_FLOOR)
    spectrogram = np.pad(frames, ((0, _rounded(len(frames)) - len(frames)), (0, 0)))
    valid = (np.arange(len(spectrogram)) < len(frames)).astype(np.float32)
    return np.array(_compiled().hear(self.model, spectrogram[None], valid[None])[0])

  def pieces(
    self, units: np.ndarray, condition: str | np.ndarray | None = None, *, piece_frames: int
  ) -> Iterator[np.ndarray]:
    """Yields the waveform of `speak` in pieces of `piece_frames` frames, the last one shorter; none is empty."""
    if piece_frames < 1:
      raise UserError(
        f"pieces of {piece_frames} frames",
        where="unit-to-speech",
        rule="a piece has at least one frame",
        remedy="43 frames are half a second at 22,050 Hz and a hop of 256",
      )
    vector = self._vector(condition)
    spoken = self.plan(units, vector)
    return self._sound(spoken, vector, min(piece_frames, _rounded(spoken.num_frames)))

  def plan(self, units: np.ndarray, vector: np.ndarray | None) -> Spoken:
    """Returns prior and durations; a unit whose duration is zero is not heard.

    If all are zero the utterance is one frame without a unit, as in the original.
    """
    config = self.model.config
    units = check_units(units, codebook_size=config.codebook_size)
    if not 1 <= len(units) <= MOST_UNITS:
      raise UserError(
        f"{len(units)} units",
        where="unit-to-speech",
        rule=f"an utterance has 1 to {MOST_UNITS} units, since every unit attends to every other",
        remedy="split longer speech where it pauses",
      )
    size = _rounded(len(units))
    ids = np.pad(units, (0, size - len(units)))[None]
    valid = (np.arange(size) < len(units)).astype(np.float32)[None]
    scale = np.float32(self.delivery.duration_noise)
    prior, logs = _compiled().read(self.model, ids, valid, _row(vector), scale, self.delivery.seed)
    with np.errstate(over="ignore"):
      exact = np.exp(np.asarray(logs, np.float64)[0, : len(units)]) * self.delivery.length
    longest = LONGEST_SECONDS * self.sample_rate / self.hop * len(units)
    if not np.isfinite(exact).all() or exact.sum() > longest:
      raise UserError(
        f"durations of {exact.sum():.3g} frames for {len(units)} units",
        where="unit-to-speech",
        rule=f"durations are numbers, and below {LONGEST_SECONDS:.0f} s a unit",
        remedy="check that weights and config belong together, and that the length factor is what you meant",
      )
    durations = np.ceil(exact).astype(np.int32)
    return Spoken(prior, durations, max(int(durations.sum()), 1))

  def _sound(self, spoken: Spoken, vector: np.ndarray | None, piece_frames: int) -> Iterator[np.ndarray]:
    # One piece that holds everything has nothing but silence around it.
    context = 0 if piece_frames >= spoken.num_frames else self.model.config.context
    path = path_of(spoken.durations, num_frames=spoken.num_frames)
    nobody = spoken.prior.mean.shape[1]  # past the last row
    # A frame without a unit holds the number of units, which is past the last row only without padding.
    path = np.where(path < len(spoken.durations), path, nobody).astype(np.int32)
    scale, condition = np.float32(self.delivery.noise), _row(vector)

    def sound(path: np.ndarray, valid: np.ndarray, first: np.ndarray) -> Any:
      here = np.where(valid > 0, path, nobody).astype(np.int32)
      return _compiled().sound(self.model, spoken.prior, here, valid, condition, first, scale, self.delivery.seed)

    windows = WindowStream(sound, hop=self.hop, before=context, after=context, chunk=piece_frames)
    return map(np.array, windows.pieces(path))

  def _vector(self, condition: str | np.ndarray | None) -> np.ndarray | None:
    if condition is None:
      return None
    width = self.model.config.condition
    if isinstance(condition, str):
      return (self.centroids or Centroids((), np.zeros((0, width), np.float32))).vector(condition)
    vector = np.asarray(condition, np.float32)
    if not width or vector.shape != (width,) or not np.isfinite(vector).all():
      raise UserError(
        f"a condition of shape {vector.shape}",
        where="unit-to-speech",
        rule=f"a condition is a string, or {width} numbers" if width else "this model takes no condition",
        remedy="use the vector of a recording by this model's voice encoder" if width else "give None",
      )
    return vector


def noise_at(first: jax.Array, shape: tuple[int, int], *, seed: Any, stream: int) -> jax.Array:
  """Returns standard normal noise [number, channels] from an absolute place on; what lies where does not depend on it.

  Args:
    first: int32 [1], number of the first row; it may be negative.
    shape: rows and channels.
    seed: of the utterance.
    stream: which of its noises.
  """
  key = jax.random.fold_in(jax.random.key(seed), stream)
  places = first + jnp.arange(shape[0])
  return jax.vmap(lambda place: jax.random.normal(jax.random.fold_in(key, place), (shape[1],)))(places)


@functools.cache
def _compiled() -> _Compiled:
  def hear(model, spectrogram, valid):
    return model.voice(spectrogram, valid)

  def read(model, ids, valid, condition, scale, seed):
    prior = model.read(ids, valid)
    noise = scale * noise_at(jnp.zeros(1, jnp.int32), (ids.shape[1], 2), seed=seed, stream=0)[None]
    return prior, model.log_durations(prior, valid, condition, noise=noise)

  def sound(model, prior, path, valid, condition, first, scale, seed):
    noise = scale * noise_at(first, (path.shape[1], prior.mean.shape[-1]), seed=seed, stream=1)[None]
    return model.sound(model.draw(prior, path, noise=noise), valid, condition)

  return _Compiled(jax.jit(hear), jax.jit(read), jax.jit(sound))


def _row(vector: np.ndarray | None) -> np.ndarray | None:
  return None if vector is None else vector[None]


def _condition(style: Manner) -> str | None:
  return condition_of(style) if isinstance(style, Style) else style


def _rounded(size: int) -> int:
  return bucket(size, smallest=_SMALLEST)
