"""The parts of SNAC (arXiv 2410.14411): encoder, quantiser, decoder; frames are [B, T, C].

`valid` is 1 on latents of the utterance and 0 outside, None where all are; what is outside is zero behind every
convolution, and so stays zero through the activation x + sin(a x)^2 / a (Ziyin et al., arXiv 2006.08195).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, Int

from omni_jax.core.arrays import Array, Hidden, Key, Scalar, Waveform
from omni_jax.nn.channelwise import snake
from omni_jax.nn.parameter import constant, table
from omni_jax.nn.weight_norm import Kernel, NormedConvolution, NormedUpsampling
from omni_jax.speech.source import noise

_TAPS, _DILATIONS = 7, (1, 3, 9)
_SMALLEST_LENGTH = 1e-12
NOISE_APART = 16411  # samples of the noise table between two stages, so that they do not add the same noise

Valid = Float[Array, "B T"] | None


class Snake(nnx.Module):
  """x + sin(a x)^2 / a with a learned frequency for each channel."""

  def __init__(self, width: int):
    self.alpha = constant(1.0, (width,), axes=(None,))

  def __call__(self, x: Hidden) -> Hidden:
    """Returns frames of the same shape."""
    return snake(x, self.alpha[...])


class ResidualUnit(nnx.Module):
  """x + a pointwise convolution of a dilated one, each behind its activation."""

  def __init__(self, width: int, *, dilation: int, depthwise: bool, normed: bool, key: Key):
    keys = jax.random.split(key)
    kernel = Kernel(taps=_TAPS, dilation=dilation, groups=width if depthwise else 1)
    self.before = Snake(width)
    self.dilated = NormedConvolution(width, width, kernel=kernel, normed=normed, key=keys[0])
    self.between = Snake(width)
    self.pointwise = NormedConvolution(width, width, kernel=Kernel(taps=1), normed=normed, key=keys[1])

  def __call__(self, x: Hidden, valid: Valid) -> Hidden:
    """Returns frames of the same shape."""
    y = _masked(self.dilated(self.before(x)), valid)
    return x + _masked(self.pointwise(self.between(y)), valid)


class EncoderStage(nnx.Module):
  """Residual units, then a convolution to one output for `rate` inputs with twice the channels."""

  def __init__(self, width: int, *, rate: int, depthwise: bool, normed: bool, key: Key):
    keys = jax.random.split(key, 1 + len(_DILATIONS))
    self.units = _units(width, depthwise=depthwise, normed=normed, keys=keys[1:])
    self.snake = Snake(width)
    kernel = Kernel(taps=2 * rate, stride=rate, padding=-(-rate // 2))
    self.down = NormedConvolution(width, 2 * width, kernel=kernel, normed=normed, key=keys[0])

  def __call__(self, x: Hidden, valid: Valid) -> tuple[Hidden, Valid]:
    """Returns frames at the lower rate and which of them are valid."""
    for unit in self.units:
      x = unit(x, valid)
    valid = None if valid is None else valid[:, :: self.down.kernel.stride]
    return _masked(self.down(self.snake(x)), valid), valid


class DecoderStage(nnx.Module):
  """A transposed convolution to half the channels, noise with learned strength, then residual units."""

  def __init__(self, width: int, *, rate: int, noise: bool, depthwise: bool, normed: bool, key: Key):
    keys = jax.random.split(key, 2 + len(_DILATIONS))
    half = width // 2
    self.snake = Snake(width)
    kernel = Kernel(taps=2 * rate, stride=rate, padding=-(-rate // 2))
    self.up = NormedUpsampling(width, half, kernel=kernel, extra=rate % 2, normed=normed, key=keys[0])
    one = Kernel(taps=1)
    self.noise = NormedConvolution(half, half, kernel=one, bias=False, normed=normed, key=keys[1]) if noise else None
    self.units = _units(half, depthwise=depthwise, normed=normed, keys=keys[2:])

  def __call__(self, x: Hidden, valid: Valid, *, first: Int[Array, "B"]) -> tuple[Hidden, Valid]:
    """Returns frames at the higher rate and which are valid; `first` is the place in the noise of the first one."""
    valid = None if valid is None else jnp.repeat(valid, self.up.kernel.stride, axis=1)
    x = _masked(self.up(self.snake(x)), valid)
    if self.noise is not None:
      x = x + noise(first, x.shape[1])[..., None] * self.noise(x)
    for unit in self.units:
      x = unit(x, valid)
    return x, valid


class Encoder(nnx.Module):
  """Waveform -> latents, one for the product of the rates."""

  def __init__(self, width: int, rates: tuple[int, ...], *, depthwise: bool, normed: bool, key: Key):
    keys = jax.random.split(key, 2 + len(rates))
    self.rates = rates
    self.first = NormedConvolution(1, width, kernel=Kernel(taps=_TAPS), normed=normed, key=keys[0])
    self.stages = nnx.List(
      EncoderStage(width << stage, rate=rate, depthwise=depthwise, normed=normed, key=each)
      for stage, (rate, each) in enumerate(zip(rates, keys[2:], strict=True))
    )
    last = width << len(rates)
    kernel = Kernel(taps=_TAPS, groups=last if depthwise else 1)
    self.last = NormedConvolution(last, last, kernel=kernel, normed=normed, key=keys[1])

  def __call__(self, waveform: Waveform, valid: Valid) -> Hidden:
    """Returns latents; `valid` is of latents."""
    at_rate = valid
    for rate in self.rates:
      at_rate = None if at_rate is None else jnp.repeat(at_rate, rate, axis=1)
    x = _masked(self.first(_masked(waveform[..., None], at_rate)), at_rate)
    for stage in self.stages:
      x, at_rate = stage(x, at_rate)
    return _masked(self.last(x), at_rate)


class Decoder(nnx.Module):
  """Latents -> waveform."""

  def __init__(
    self, inputs: int, width: int, *, rates: tuple[int, ...], noise: bool, depthwise: bool, normed: bool, key: Key
  ):
    keys = jax.random.split(key, 3 + len(rates))
    wide = Kernel(taps=_TAPS)
    each = Kernel(taps=_TAPS, groups=inputs if depthwise else 1)
    self.first = NormedConvolution(inputs, inputs if depthwise else width, kernel=each, normed=normed, key=keys[0])
    one = Kernel(taps=1)
    self.widen = NormedConvolution(inputs, width, kernel=one, normed=normed, key=keys[1]) if depthwise else None
    self.stages = nnx.List(
      DecoderStage(width >> stage, rate=rate, noise=noise, depthwise=depthwise, normed=normed, key=own)
      for stage, (rate, own) in enumerate(zip(rates, keys[3:], strict=True))
    )
    self.snake = Snake(width >> len(rates))
    self.last = NormedConvolution(width >> len(rates), 1, kernel=wide, normed=normed, key=keys[2])

  def __call__(self, latents: Hidden, valid: Valid, *, first: Int[Array, "B"]) -> Waveform:
    """Returns samples; `first` is the number of the first latent."""
    x = self.first(_masked(latents, valid))
    x = _masked(x if self.widen is None else self.widen(x), valid)
    for number, stage in enumerate(self.stages):
      first = first * stage.up.kernel.stride
      x, valid = stage(x, valid, first=first + number * NOISE_APART)
    return _masked(jnp.tanh(self.last(self.snake(x))), valid)[..., 0]


class Quantised(NamedTuple):
  """Codes, what they mean as latents, and the distances of codes and latents from each other.

  The codes are those of one quantiser [B, T], or of all, as rows of frames [B, F, Q].
  """

  codes: Array
  latents: Hidden
  codebook: Scalar
  commitment: Scalar


class Quantizer(nnx.Module):
  """One code for the mean of `stride` latents: the nearest by angle (arXiv 2110.04627), taken with its length."""

  def __init__(self, width: int, code_width: int, *, codes: int, stride: int, normed: bool, key: Key):
    keys = jax.random.split(key, 3)
    self.stride = stride
    one = Kernel(taps=1)
    self.input = NormedConvolution(width, code_width, kernel=one, normed=normed, key=keys[0])
    self.output = NormedConvolution(code_width, width, kernel=one, normed=normed, key=keys[1])
    self.codebook = table(keys[2], (codes, code_width), axes=("vocab", None), deviation=1.0)

  def __call__(self, latents: Hidden) -> Quantised:
    """Returns the codes of latents and their latents; gradients go to the latents as if nothing was rounded."""
    rows, number, width = latents.shape
    x = self.input(latents.reshape(rows, number // self.stride, self.stride, width).mean(2))
    codes = self._nearest(jax.lax.stop_gradient(x))
    chosen = jnp.take(self.codebook[...], codes, axis=0)
    away = jnp.square(jax.lax.stop_gradient(x) - chosen).mean()
    astray = jnp.square(x - jax.lax.stop_gradient(chosen)).mean()
    through = x + jax.lax.stop_gradient(chosen - x)
    return Quantised(codes, jnp.repeat(self.output(through), self.stride, axis=1), away, astray)

  def latents(self, codes: Int[Array, "B T"]) -> Hidden:
    """Returns the latents of codes."""
    chosen = jnp.take(self.codebook[...], codes, axis=0, mode="clip")
    return jnp.repeat(self.output(chosen), self.stride, axis=1)

  def _nearest(self, x: Hidden) -> Int[Array, "B T"]:
    x, book = _directions(x), _directions(self.codebook[...])
    distances = jnp.square(x).sum(-1, keepdims=True) - 2 * x @ book.T + jnp.square(book).sum(-1)
    return jnp.argmin(distances, axis=-1).astype(jnp.int32)


def reach(rates: tuple[int, ...], *, up: bool) -> int:
  """Returns how many latents on each side the sound of a latent (`up`) or a latent (else) depends on.

  Intervals are followed from an output back to its inputs, one convolution after the other.
  """
  ends, units = _TAPS // 2, sum(_TAPS // 2 * dilation for dilation in _DILATIONS)
  hop = 1
  for rate in rates:
    hop *= rate
  first, last = (-ends, hop - 1 + ends) if up else (-ends, ends)
  for rate in reversed(rates):
    padding = -(-rate // 2)
    if up:
      first, last = first - units, last + units
      first, last = -((2 * rate - 1 - padding - first) // rate), (last + padding) // rate
    else:
      first, last = first * rate - padding - units, last * rate - padding + 2 * rate - 1 + units
  if up:
    return max(-first, last) + ends
  return max(-((first - ends) // hop), (last + ends) // hop)


def samples_ahead(rates: tuple[int, ...]) -> int:
  """Returns how many samples in front of the first one of a latent depend on it (4,757 for 24 kHz).

  The first sample that an input moves is followed from the latent on, one convolution after the other.
  """
  units = sum(_TAPS // 2 * dilation for dilation in _DILATIONS)
  first = -(_TAPS // 2)
  for rate in rates:
    first = first * rate - -(-rate // 2) - units
  return _TAPS // 2 - first


def _units(width: int, *, depthwise: bool, normed: bool, keys: Array) -> nnx.List:
  return nnx.List(
    ResidualUnit(width, dilation=dilation, depthwise=depthwise, normed=normed, key=key)
    for dilation, key in zip(_DILATIONS, keys, strict=True)
  )


def _directions(x: Array) -> Array:
  return x / jnp.maximum(jnp.sqrt(jnp.square(x).sum(-1, keepdims=True)), _SMALLEST_LENGTH)


def _masked(x: Hidden, valid: Valid) -> Hidden:
  return x if valid is None else x * valid[..., None]
