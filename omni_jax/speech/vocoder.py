"""Units and a style -> a waveform: a neural source-filter vocoder with an inverse-STFT head.

    units [U] + style --convolutions at the rate of units--> hidden [U, N], durations [U] (mean, in 40 ms frames)
         |  laid out in time: every unit repeated for its duration, with its place inside it
         v
    100 frames/s --convolutions--> F0, log magnitudes of two filters
         v
    pulses at F0 * filter + noise * filter --overlap-add--> 16 kHz            (`source.py`, `istft.py`)

Units are reduced (no unit equals the one before). A unit is embedded by the digits of its finite scalar quantiser, so
that units never seen in training still have neighbours, plus a row of its own. Most of the network runs at the rate of
units, where a step costs least. Training makes no sound (`expected.py`). EMOVA's vocoder (arXiv 2409.18042, appendix)
is VITS with HiFi-GAN; Deviation: harmonics plus noise through filters, after Wang et al. (arXiv 1904.12088) and DDSP
(arXiv 2001.04643), which a CPU trains in minutes and runs at a few hundredths of real time.

Receptive field, by `VocoderConfig`: `units_behind`, `units_ahead` of a unit, `frames_around` a frame. Positions
outside the utterance are zero in every layer, so a window with that much context gives what the whole gives.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int

from omni_jax.core.arrays import Array, Hidden, Key, Units, typed
from omni_jax.core.errors import UserError
from omni_jax.core.styles import EMOTIONS, GENDERS, PITCHES, Style
from omni_jax.nn.norm import RMSNorm
from omni_jax.nn.parameter import constant, table, weight
from omni_jax.speech import frames as time
from omni_jax.speech.frames import SILENT, FrameFeatures, Layout, lay_out
from omni_jax.speech.interface import Context, Manner
from omni_jax.speech.istft import HOP, SAMPLE_RATE
from omni_jax.speech.streams import Stream
from omni_jax.speech.timing import SpeakingTimed
from omni_jax.speech.vocoder_streaming import seconds, stream

REFERENCE_HZ, WIDEST_OCTAVES = 150.0, 4.0  # the network predicts octaves above or below
LOWEST_HZ, HIGHEST_HZ = 50.0, 500.0
LOUDEST = 5.0  # natural logarithm of a filter's magnitude; keeps the first steps of training finite
DURATION_OFFSET, LEAST_DURATION = 1.0, 0.2  # before and after the softplus: units start at 1.5 frames of 40 ms
_EPS = 1e-6
_NEUTRAL = "female-neutral-normal"
_STYLE_PARTS = len(GENDERS) + len(EMOTIONS) + len(PITCHES)

Styles = Int[Array, "B 3"]
Durations = Float[Array, "B U"]
Valid = Float[Array, "B T"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocoderConfig:
  """Sizes of the vocoder.

  Attributes:
    levels: levels of each digit of a unit, the least significant first.
    width: channels at the rate of units, where a step costs a quarter of one at the rate of frames.
    frame_width: channels at the rate of frames.
    kernel: taps of every convolution.
    unit_blocks: (dilation, taps ahead) of each block at the rate of units; few taps ahead keep the delay small.
    frame_dilations: dilation of each block at the rate of frames, centred.
    harmonic_bands: mel-spaced points of the filter of the pulses.
    noise_bands: of the filter of the noise.
    places: distances to the start and end of a unit, in frames, that are told apart.
  """

  levels: tuple[int, ...]
  width: int
  frame_width: int
  kernel: int
  unit_blocks: tuple[tuple[int, int], ...]
  frame_dilations: tuple[int, ...]
  harmonic_bands: int
  noise_bands: int
  places: int

  def __post_init__(self):
    assert self.kernel % 2 == 1, "blocks at the rate of frames are centred, so the kernel is odd"
    assert all(0 <= ahead < self.kernel for _, ahead in self.unit_blocks), "taps ahead are taps of the kernel"

  @property
  def sample_rate(self) -> int:
    """Hz."""
    return SAMPLE_RATE

  @property
  def codebook_size(self) -> int:
    """Number of different units."""
    return int(np.prod(self.levels))

  @property
  def units_ahead(self) -> int:
    """Units after a unit that its duration and hidden state depend on."""
    return sum(dilation * ahead for dilation, ahead in self.unit_blocks)

  @property
  def units_behind(self) -> int:
    """Units before a unit that its duration and hidden state depend on."""
    return sum(dilation * (self.kernel - 1 - ahead) for dilation, ahead in self.unit_blocks)

  @property
  def frames_around(self) -> int:
    """Frames on each side that a frame's F0 and filters depend on."""
    return sum(dilation * (self.kernel // 2) for dilation in self.frame_dilations)

  @property
  def context(self) -> Context:
    """What the sound of a unit depends on; with no `units_ahead` the vocoder is causal but for a few frames."""
    return Context(
      units_before=self.units_behind,
      units_after=self.units_ahead,
      frames_before=self.frames_around + time.FRAMES_BEFORE,
      frames_after=self.frames_around + time.FRAMES_AFTER,
    )

  def make(self, *, key: Key) -> "Vocoder":
    """Returns a new vocoder."""
    return Vocoder(self, key=key)


class UnitFeatures(NamedTuple):
  """What the units say before time is laid out: hidden states, and mean durations in 40 ms frames."""

  hidden: Hidden
  durations: Durations


class Imitation(NamedTuple):
  """F0 and filters of a stretch in its true time, mean durations in 40 ms frames, and 1 on frames of the utterance."""

  features: FrameFeatures
  durations: Durations
  valid: Valid


class ConvBlock(nnx.Module):
  """x + output(silu(convolution(norm(x)) + style)): dense, since depthwise convolutions are slow on a CPU."""

  def __init__(self, *, width: int, taps: tuple[int, ...], key: Key):
    keys = jax.random.split(key, 3)
    self.taps = taps  # offsets in positions, negative is the past
    self.norm = RMSNorm(width=width, eps=_EPS)
    self.input = weight(keys[0], (len(taps) * width, width), axes=("embed", "mlp"), fan_in=len(taps) * width)
    self.style = weight(keys[1], (_STYLE_PARTS, width), axes=(None, "mlp"), fan_in=_STYLE_PARTS)
    self.bias = constant(0.0, (width,), axes=(None,))
    self.output = weight(keys[2], (width, width), axes=("mlp", "embed"), fan_in=4 * width)

  def __call__(self, x: Hidden, style: Float[Array, "B Z"], valid: Valid) -> Hidden:
    """Returns x after the block; zero where `valid` is zero."""
    normed = self.norm(x)
    columns = jnp.concatenate([_shift(normed, tap) for tap in self.taps], axis=-1)
    mixed = columns @ self.input[...] + (style @ self.style[...] + self.bias[...])[:, None]
    return (x + jax.nn.silu(mixed) @ self.output[...]) * valid[..., None]


class Vocoder(SpeakingTimed, nnx.Module):
  """Reduced units and a style -> waveform; `decode` and `stream` are the interface, the rest is for training."""

  sample_rate = SAMPLE_RATE
  hop = HOP
  num_codebooks = 1

  def __init__(self, config: VocoderConfig, *, key: Key):
    self.config = config
    width, narrow, taps = config.width, config.frame_width, range(config.kernel)
    digits = sum(config.levels)
    keys = iter(jax.random.split(key, 10 + len(config.unit_blocks) + len(config.frame_dilations)))
    self.digit = weight(next(keys), (digits, width), axes=(None, "embed"), fan_in=len(config.levels))
    self.mix = weight(next(keys), (width, width), axes=("embed", "embed"), fan_in=width)
    self.whole = table(next(keys), (config.codebook_size, width), axes=("vocab", "embed"), deviation=0.1)
    self.units = nnx.List(
      ConvBlock(width=width, taps=tuple((tap - config.kernel + 1 + ahead) * step for tap in taps), key=next(keys))
      for step, ahead in config.unit_blocks
    )
    self.unit_norm = RMSNorm(width=width, eps=_EPS)
    self.duration = weight(next(keys), (width, 1), axes=("embed", None), fan_in=16 * width)
    self.narrow = weight(next(keys), (width, narrow), axes=("embed", "embed"), fan_in=width)
    self.since = table(next(keys), (config.places, narrow), axes=(None, "embed"), deviation=0.3)
    self.until = table(next(keys), (config.places, narrow), axes=(None, "embed"), deviation=0.3)
    self.frames = nnx.List(
      ConvBlock(width=narrow, taps=tuple((tap - config.kernel // 2) * step for tap in taps), key=next(keys))
      for step in config.frame_dilations
    )
    self.frame_norm = RMSNorm(width=narrow, eps=_EPS)
    self.pitch = weight(next(keys), (narrow, 1), axes=("embed", None), fan_in=16 * narrow)
    self.pitch_style = constant(0.0, (_STYLE_PARTS, 1), axes=(None, None))
    bands = config.harmonic_bands + config.noise_bands
    self.filters = weight(next(keys), (narrow, bands), axes=("embed", None), fan_in=4 * narrow)
    self.filter_bias = constant(-4.0, (bands,), axes=(None,))

  @typed
  def read(self, units: Units, valid: Float[Array, "B U"], styles: Styles) -> UnitFeatures:
    """Returns hidden states and mean durations of reduced units; `valid` is 1 on units and 0 on padding."""
    style = style_vector(styles)
    x = jax.nn.silu(digits_of(units, self.config.levels) @ self.digit[...]) @ self.mix[...]
    x = (x + jnp.take(self.whole[...], units, axis=0, mode="clip")) * valid[..., None]
    for block in self.units:
      x = block(x, style, valid)
    x = self.unit_norm(x)
    durations = jax.nn.softplus(x @ self.duration[...] + DURATION_OFFSET)[..., 0] + LEAST_DURATION
    return UnitFeatures(x @ self.narrow[...], durations * valid)

  @typed
  def shape(self, hidden: Hidden, layout: Layout, styles: Styles) -> FrameFeatures:
    """Returns F0 and filters of frames laid out over the hidden states of their units."""
    style, places = style_vector(styles), self.config.places
    x = jnp.take_along_axis(hidden, layout.unit[..., None], axis=1)
    x = (
      x
      + self.since[...][jnp.minimum(layout.since, places - 1)]
      + self.until[...][jnp.minimum(layout.until, places - 1)]
    )
    x = x * layout.valid[..., None]
    for block in self.frames:
      x = block(x, style, layout.valid)
    x = self.frame_norm(x)
    octaves = (x @ self.pitch[...] + (style @ self.pitch_style[...])[:, None])[..., 0]
    f0 = REFERENCE_HZ * jnp.exp2(jnp.clip(octaves, -WIDEST_OCTAVES, WIDEST_OCTAVES))
    f0 = jnp.clip(f0, LOWEST_HZ, HIGHEST_HZ)
    filters = jnp.minimum(x @ self.filters[...] + self.filter_bias[...], LOUDEST)
    filters = jnp.where(layout.valid[..., None] > 0, filters, SILENT)
    harmonic, noise = jnp.split(filters, [self.config.harmonic_bands], axis=-1)
    return FrameFeatures(f0, harmonic, noise)

  @typed
  def imitate(
    self,
    units: Units,
    counts: Int[Array, "B U"],
    *,
    styles: Styles,
    first: Int[Array, "B"],
    num_frames: int,
  ) -> Imitation:
    """Returns how a stretch of an utterance would be spoken in its own durations, and the prosody it would be given.

    Args:
      units: reduced units, padded.
      counts: true duration of each in frames; 0 is padding.
      styles: gender, emotion and pitch.
      first: number of the first frame, which may be negative.
      num_frames: frames of the stretch.
    """
    read = self.read(units, (counts > 0).astype(jnp.float32), styles)
    layout = lay_out(counts, first, num_frames)
    return Imitation(self.shape(read.hidden, layout, styles), read.durations, layout.valid)

  @property
  def codebook_size(self) -> int:
    """The number of different units."""
    return self.config.codebook_size

  @property
  def context(self) -> Context:
    """What the sound of a unit depends on."""
    return self.config.context

  @property
  def unit_seconds(self) -> float:
    """Seconds that each of `units_ahead` counts: 40 ms."""
    return time.FRAMES_PER_UNIT / self.frame_rate

  def decode(self, units: np.ndarray, style: Manner = None) -> np.ndarray:
    """Returns the waveform, float32 [A] at 16 kHz, of reduced `units`, int32 [U], spoken in `style`.

    Raises:
      UserError: no units, one outside the codebook, an unknown style.
    """
    speaking = self.stream(style)
    samples = [speaking.push(units), speaking.finish()]
    if not any(map(len, samples)):
      raise UserError("no units", where="vocoder", rule="there is something to say", remedy="give at least one unit")
    return np.concatenate(samples)

  def seconds(self, units: Sequence[np.ndarray], styles: Sequence[Style]) -> list[float]:
    """Returns how long `decode` makes each row of reduced units, int32 [U], but for rounding each to 10 ms."""
    return seconds(self, units, styles)

  def stream(self, style: Manner = None) -> Stream:
    """Returns a stream that speaks units as they come, in a style or one written `female-happy-high`; None: neutral.

    Raises:
      UserError: an unknown style.
    """
    return stream(self, Style.parse(style or _NEUTRAL) if not isinstance(style, Style) else style)


def digits_of(units: Units, levels: tuple[int, ...]) -> Float[Array, "B U G"]:
  """Returns the digits of each unit, one-hot side by side, the least significant first."""
  parts: list[Array] = []
  for level in levels:
    parts.append(jax.nn.one_hot(units % level, level))
    units = units // level
  return jnp.concatenate(parts, axis=-1)


def style_vector(styles: Styles) -> Float[Array, "B Z"]:
  """Returns gender, emotion and pitch, one-hot side by side."""
  sizes = (len(GENDERS), len(EMOTIONS), len(PITCHES))
  return jnp.concatenate([jax.nn.one_hot(styles[:, part], size) for part, size in enumerate(sizes)], axis=-1)


def _shift(x: Array, offset: int) -> Array:
  """Returns y with y[t] = x[t + offset], zero outside."""
  length = x.shape[1]
  if abs(offset) >= length:
    return jnp.zeros_like(x)
  if offset >= 0:
    return jnp.pad(x[:, offset:], ((0, 0), (0, offset), (0, 0)))
  return jnp.pad(x[:, :offset], ((0, 0), (-offset, 0), (0, 0)))
