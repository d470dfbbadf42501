"""Units -> waveform: SpeechGPT's vocoder (arXiv 2305.11000), fairseq's `CodeHiFiGANVocoder` (arXiv 2104.00355).

    reduced units [N] --embedding--+--duration predictor--> frames of each
                                   v
    frames [T, D] (+ speaker) --HiFi-GAN--> waveform [T * hop]

A unit is a cluster of HuBERT features; a frame lasts `hop` samples. It has one voice, or a table of speakers; where
these are the 24 styles (`styled`), a style chooses among them, otherwise every style sounds alike; a manner that is a
string is the number of a speaker. Deviation: ids outside the table are refused; the original drops those below zero.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int

from omni_jax.core.arrays import Array, Hidden, Key, Units, Waveform, typed
from omni_jax.core.config import added
from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES, Style
from omni_jax.nn.convolution import Convolution, FrameNorm
from omni_jax.nn.dropout import drop, keys_of
from omni_jax.nn.linear import Linear
from omni_jax.nn.parameter import table
from omni_jax.speech.hifigan import HiFiGANConfig
from omni_jax.speech.interface import Context, Manner
from omni_jax.speech.streams import Each, Stream
from omni_jax.speech.timing import SpeakingTimed
from omni_jax.speech.windows import WindowStream, join, run_whole
from omni_jax.tokens.units import check_units

_UNIT_WINDOW = 128  # units whose durations are predicted at once
_LARGEST_WINDOW = 1024  # frames spoken at once, 20 s
_STREAM_FRAMES = 16  # of a stream's chunk by default


@dataclasses.dataclass(frozen=True, kw_only=True)
class DurationConfig:
  """Sizes of the duration predictor.

  Attributes:
    width: channels inside.
    taps: of both convolutions.
    dropout: share of channels left out in training.
  """

  width: int
  taps: int
  dropout: float

  @property
  def context(self) -> int:
    """Units on each side of a unit that its duration depends on."""
    return 2 * (self.taps // 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitHiFiGANConfig:
  """Sizes of the vocoder.

  Attributes:
    sample_rate: Hz.
    codebook_size: number of different units.
    embedding: width of a unit's and of a speaker's embedding.
    speakers: voices in the table; 0 for a single voice without one.
    duration: None where units come with their durations only.
    generator: from embeddings to sound.
    styled: whether the speakers are the 24 styles, in the order of `ALL_STYLES`.
  """

  sample_rate: int
  codebook_size: int
  embedding: int
  speakers: int
  duration: DurationConfig | None
  generator: HiFiGANConfig
  styled: bool = added(False)

  def __post_init__(self):
    assert not self.styled or self.speakers == len(ALL_STYLES), f"{self.speakers} speakers are not the styles"
    wanted = self.embedding * (2 if self.speakers else 1)
    assert self.generator.inputs == wanted, f"generator.inputs is {self.generator.inputs}, units and speaker {wanted}"

  @property
  def context(self) -> Context:
    """What the sound of a unit depends on."""
    units, frames = self.duration.context if self.duration else 0, self.generator.context
    return Context(units_before=units, units_after=units, frames_before=frames, frames_after=frames)

  @property
  def inference(self) -> "UnitHiFiGANConfig":
    """The same vocoder with every kernel folded into one array, for `nn.weight_norm.fold_model`."""
    return dataclasses.replace(self, generator=dataclasses.replace(self.generator, normed=False))

  def make(self, *, key: Key) -> "UnitHiFiGAN":
    """Returns a new vocoder."""
    return UnitHiFiGAN(self, key=key)


# The vocoder of SpeechGPT's units, `mhubert_vp_en_es_fr_it3_400k_layer11_km1000_lj`; its embedding is that of the
# public vocoder of 100 units, since its own config could not be read.
SPEECHGPT_VOCODER = UnitHiFiGANConfig(
  sample_rate=16000,
  codebook_size=1000,
  embedding=128,
  speakers=0,
  duration=DurationConfig(width=128, taps=3, dropout=0.5),
  generator=HiFiGANConfig(
    inputs=128,
    width=512,
    rates=(5, 4, 4, 2, 2),
    taps=(11, 8, 8, 4, 4),
    residual="1",
    block_taps=(3, 7, 11),
    block_dilations=((1, 3, 5),) * 3,
  ),
)


class Spoken(NamedTuple):
  """Sound of frames in their true time, and log(1 + frames) as predicted for reduced units (None without predictor)."""

  waveform: Waveform
  log_durations: Float[Array, "B N"] | None


class DurationPredictor(nnx.Module):
  """Twice convolution, ReLU, norm and dropout, then log(1 + frames) of each unit."""

  def __init__(self, config: DurationConfig, *, inputs: int, key: Key):
    keys = jax.random.split(key, 3)
    self.dropout = config.dropout
    self.first = Convolution(inputs, config.width, taps=config.taps, key=keys[0])
    self.first_norm = FrameNorm(config.width)
    self.second = Convolution(config.width, config.width, taps=config.taps, key=keys[1])
    self.second_norm = FrameNorm(config.width)
    self.output = Linear(config.width, 1, axes=("embed", None), bias=True, key=keys[2])

  def __call__(self, x: Hidden, valid: Float[Array, "B T"], *, key: Key | None = None) -> Float[Array, "B T"]:
    """Returns log(1 + frames); `key` draws what dropout leaves out, None leaves everything in."""
    keys = keys_of(key, 2)
    x = self.first_norm(jax.nn.relu(self.first(x * valid[..., None])))
    x = drop(x, self.dropout, key=keys[0])
    x = self.second_norm(jax.nn.relu(self.second(x * valid[..., None])))
    return self.output(drop(x, self.dropout, key=keys[1]))[..., 0]


class UnitHiFiGAN(SpeakingTimed, nnx.Module):
  """The vocoder; `decode` and `stream` are the interface."""

  num_codebooks = 1

  def __init__(self, config: UnitHiFiGANConfig, *, key: Key):
    self.config = config
    keys = jax.random.split(key, 4)
    axes, size = ("vocab", "embed"), (config.codebook_size, config.embedding)
    self.units = table(keys[0], size, axes=axes, deviation=1.0)
    spoken = config.speakers
    self.speakers = table(keys[1], (spoken, config.embedding), axes=axes, deviation=1.0) if spoken else None
    predicted = config.duration
    self.durations = DurationPredictor(predicted, inputs=config.embedding, key=keys[2]) if predicted else None
    self.generator = config.generator.make(key=keys[3])

  @property
  def sample_rate(self) -> int:
    """Samples per second."""
    return self.config.sample_rate

  @property
  def hop(self) -> int:
    """Samples of a frame."""
    return self.config.generator.hop

  @property
  def codebook_size(self) -> int:
    """The number of different units."""
    return self.config.codebook_size

  @property
  def context(self) -> Context:
    """What the sound of a unit depends on."""
    return self.config.context

  @typed
  def __call__(
    self, units: Units, valid: Float[Array, "B U"] | None = None, *, speaker: Int[Array, "B"] | None = None
  ) -> Waveform:
    """Returns `hop` samples for each unit, which is repeated for as many frames as it lasts.

    Args:
      units: one for each frame.
      valid: 1 on frames of the utterance, 0 outside; None where all are.
      speaker: of each row, where the config has speakers.
    """
    x = jnp.take(self.units[...], units, axis=0, mode="clip")
    if self.speakers is not None:
      assert speaker is not None, "a vocoder with speakers is told who speaks"
      voice = jnp.take(self.speakers[...], speaker, axis=0, mode="clip")[:, None]
      x = jnp.concatenate([x, jnp.broadcast_to(voice, x.shape)], axis=-1)
    return self.generator(x, valid)

  @typed
  def log_durations(self, units: Units, valid: Float[Array, "B U"], *, key: Key | None = None) -> Float[Array, "B U"]:
    """Returns log(1 + frames) of each reduced unit; where `valid` is 0 it means nothing."""
    assert self.durations is not None, "the config has a duration predictor"
    return self.durations(jnp.take(self.units[...], units, axis=0, mode="clip"), valid, key=key)

  def decode(self, units: np.ndarray, style: Manner = None, *, speaker: int = 0) -> np.ndarray:
    """Returns the waveform, float32 [A], of reduced units [N] in their predicted durations.

    Without a duration predictor every unit lasts one frame. A `style` is heard where speakers are styles; a string is
    the speaker's number.

    Raises:
      UserError: no units, one outside the codebook, an unknown speaker.
    """
    units = self._checked(units)
    return self.decode_timed(units, self._counts(units), speaker=self._speaker_of(style, speaker))

  def seconds(self, units: Sequence[np.ndarray], styles: Sequence[Style]) -> list[float]:
    """Returns how long `decode` makes each row of reduced units [N]; styles change nothing.

    Raises:
      UserError: a unit outside the codebook.
    """
    checked = (check_units(row, codebook_size=self.codebook_size) for row, _ in zip(units, styles, strict=True))
    return [float(self._counts(row).sum() / self.frame_rate) if len(row) else 0.0 for row in checked]

  def decode_timed(self, units: np.ndarray, counts: np.ndarray, *, speaker: int = 0) -> np.ndarray:
    """Returns the waveform, float32 [A], of units [N] that last `counts` [N] frames.

    Raises:
      UserError: no units or frames, a unit outside the codebook, a negative count, an unknown speaker.
    """
    units, counts = self._checked(units), np.asarray(counts)
    if counts.shape != units.shape or counts.min() < 0 or not counts.sum():
      raise UserError(
        f"durations of shape {counts.shape}, from {counts.min(initial=0)}, {counts.sum()} frames together",
        where="unit vocoder",
        rule="every unit has a duration of zero or more frames, and the utterance at least one frame",
        remedy="give one whole number of frames for each unit",
      )
    frames = np.repeat(units, counts)
    context = self.config.generator.context
    return run_whole(self._speaker(speaker), frames, hop=self.hop, context=context, largest=_LARGEST_WINDOW)

  def stream(self, style: Manner = None, *, speaker: int = 0, chunk_frames: int = _STREAM_FRAMES) -> Stream:
    """Returns an empty stream; a piece comes for every `chunk_frames` frames, once their context is known.

    Raises:
      UserError: an unknown speaker, chunks without frames.
    """
    context, speak = self.config.generator.context, self._speaker(self._speaker_of(style, speaker))
    return Stream(
      [
        self._durations(),
        Each(lambda timed: np.repeat(*timed)),
        WindowStream(speak, hop=self.hop, before=context, after=context, chunk=chunk_frames),
      ],
      check=functools.partial(check_units, codebook_size=self.codebook_size),
      empty=np.zeros(0, np.float32),
    )

  def _speaker_of(self, style: Manner, speaker: int) -> int:
    """Returns the number of the speaker that a manner names, `speaker` if it names none."""
    if isinstance(style, Style):
      return ALL_STYLES.index(style) if self.config.styled else speaker
    if style is not None and not style.isdecimal():
      raise UserError(
        f"unknown manner {style!r}",
        where="unit vocoder",
        rule="a string is the number of a speaker",
        remedy="give a number such as 0, or nothing",
      )
    return speaker if style is None else int(style)

  def _checked(self, units: np.ndarray) -> np.ndarray:
    units = check_units(units, codebook_size=self.codebook_size)
    if not len(units):
      raise UserError(
        "no units", where="unit vocoder", rule="there is something to say", remedy="give at least one unit"
      )
    return units

  def _counts(self, units: np.ndarray) -> np.ndarray:
    timed = join(list(self._durations().pieces(units))) if len(units) else None
    return np.zeros(0, np.int32) if timed is None else timed.counts

  def _durations(self) -> WindowStream:
    """Returns the stage from reduced units to units with the frames that each lasts, at least one."""
    duration = self.config.duration

    def count(units: np.ndarray, valid: np.ndarray, first: np.ndarray) -> _TimedUnits:
      del first
      if duration is None:
        return _TimedUnits(units, np.ones_like(units))
      frames = np.round(np.expm1(np.asarray(_compiled().durations(self, units, valid))))
      return _TimedUnits(units, np.maximum(frames, 1).astype(np.int32))

    context = duration.context if duration else 0
    return WindowStream(count, hop=1, before=context, after=context, chunk=_UNIT_WINDOW, least=1)

  def _speaker(self, speaker: int) -> Any:
    """Returns the function from a window of frames to sound in the voice of a speaker."""
    if not 0 <= speaker < max(self.config.speakers, 1):
      raise UserError(
        f"speaker {speaker}",
        where="unit vocoder",
        rule=f"speakers are numbered 0..{max(self.config.speakers, 1) - 1}",
        remedy="choose one of these",
      )
    row = np.array([speaker], np.int32)

    def speak(units: np.ndarray, valid: np.ndarray, first: np.ndarray) -> np.ndarray:
      del first
      return _compiled().speak(self, units, valid, row)

    return speak


class _TimedUnits(NamedTuple):
  """Units, and how many frames each lasts."""

  units: np.ndarray
  counts: np.ndarray


class _Compiled(NamedTuple):
  durations: Any
  speak: Any


@functools.cache
def _compiled() -> _Compiled:
  def durations(network, units, valid):
    return network.log_durations(units, valid)

  def speak(network, units, valid, speaker):
    return network(units, valid, speaker=speaker)

  return _Compiled(jax.jit(durations), jax.jit(speak))
