"""How long a unit lasts, as a distribution: the stochastic duration predictor of VITS (arXiv 2106.06103, section 2.2).

    synthesis   noise [B, U, 2] --flows backwards, given the units--> log durations
    training    durations --dequantised and given a second channel by a posterior of their own--> flows --> bound

A flow bends one of two channels by a spline that a small network reads off the other channel and the units; after it
the channels change places. The units are seen through a stop of the gradient: durations do not teach the encoder.
Reference files: VITS `models.py` (`StochasticDurationPredictor`), transformers `modeling_vits.py`. As there, synthesis
leaves out the first spline flow, whose only output it would throw away.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from omni_jax.core.arrays import Array, Hidden, Key, typed
from omni_jax.nn.dropout import drop, keys_of
from omni_jax.nn.linear import Linear
from omni_jax.nn.norm import LayerNorm
from omni_jax.nn.parameter import constant
from omni_jax.nn.weight_norm import Kernel, NormedConvolution
from omni_jax.speech.splines import bend, make_spline, unbend

_EPS = 1e-5
_LEAST_DURATION = 1e-5  # of a dequantised duration, before its logarithm
_LOG_TWO_PI = math.log(2.0 * math.pi)

Valid = Float[Array, "B T"]
Pairs = Float[Array, "B T 2"]
Condition = Float[Array, "B G"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DurationPredictorConfig:
  """Sizes of the predictor.

  Attributes:
    width: of the encoder's hidden states and of everything in here.
    taps: of every convolution; layer n of a stack is dilated by taps ** n.
    depth: layers of a stack of convolutions.
    num_flows: spline flows, in the predictor and in its posterior.
    bins: of a spline.
    bound: where splines end; beyond it a flow is the identity.
    condition: width of a global condition, such as a style; 0 for none.
    dropout: share of the outputs of a layer left out in training.
  """

  width: int
  taps: int
  depth: int
  num_flows: int
  bins: int
  bound: float
  condition: int = 0
  dropout: float = 0.0

  def __post_init__(self):
    assert self.num_flows >= 2, "synthesis leaves one flow out"

  @property
  def context(self) -> int:
    """Units on each side of a unit that its duration depends on."""
    stack = self.taps // 2 * sum(self.taps**layer for layer in range(self.depth))
    return stack * self.num_flows  # the stack before the flows, and all flows but one

  def make(self, *, key: Key) -> "DurationPredictor":
    """Returns a new predictor."""
    return DurationPredictor(self, key=key)


class Flowed(NamedTuple):
  """What a flow gives, and the logarithm of the determinant of its Jacobian, summed over the valid units."""

  pairs: Pairs
  log_determinant: Float[Array, "B"]


class DilatedLayer(nnx.Module):
  """x + gelu(norm(mix(gelu(norm(depthwise convolution(x))))))."""

  def __init__(self, width: int, *, taps: int, dilation: int, key: Key):
    keys = jax.random.split(key, 2)
    depthwise = Kernel(taps=taps, dilation=dilation, groups=width)
    self.depthwise = NormedConvolution(width, width, kernel=depthwise, normed=False, key=keys[0])
    self.depthwise_norm = LayerNorm(width=width, eps=_EPS)
    self.mix = _pointwise(width, width, key=keys[1])
    self.mix_norm = LayerNorm(width=width, eps=_EPS)

  def __call__(self, x: Hidden, valid: Valid, *, dropout: float, key: Key | None) -> Hidden:
    """Returns units of the same shape."""
    y = self.depthwise_norm(self.depthwise(x * valid[..., None]))
    y = self.mix_norm(self.mix(jax.nn.gelu(y, approximate=False)))
    return x + drop(jax.nn.gelu(y, approximate=False), dropout, key=key)


class DilatedStack(nnx.Module):
  """Layers whose dilation grows with their number, so that a few see far."""

  def __init__(self, config: DurationPredictorConfig, *, key: Key):
    keys = jax.random.split(key, config.depth)
    self.layers = nnx.List(
      DilatedLayer(config.width, taps=config.taps, dilation=config.taps**layer, key=keys[layer])
      for layer in range(config.depth)
    )

  def __call__(self, x: Hidden, valid: Valid, *, dropout: float = 0.0, key: Key | None = None) -> Hidden:
    """Returns units of the same shape, zero where `valid` is."""
    for layer, own in zip(self.layers, keys_of(key, len(self.layers)), strict=True):
      x = layer(x, valid, dropout=dropout, key=own)
    return x * valid[..., None]


class Affine(nnx.Module):
  """shift + exp(log_scale) * x, for each of the two channels."""

  def __init__(self):
    self.shift = constant(0.0, (2,), axes=(None,))
    self.log_scale = constant(0.0, (2,), axes=(None,))

  def forward(self, pairs: Pairs, valid: Valid) -> Flowed:
    """Returns the scaled pairs."""
    scaled = self.shift[...] + jnp.exp(self.log_scale[...]) * pairs
    return Flowed(scaled * valid[..., None], self.log_scale[...].sum() * valid.sum(1))

  def backward(self, pairs: Pairs, valid: Valid) -> Pairs:
    """Returns the pairs that `forward` scaled."""
    return (pairs - self.shift[...]) * jnp.exp(-self.log_scale[...]) * valid[..., None]


class SplineFlow(nnx.Module):
  """Bends the second channel by a spline made of the first one and of what is known of the units."""

  def __init__(self, config: DurationPredictorConfig, *, key: Key):
    keys = jax.random.split(key, 3)
    self.bound = config.bound
    self.input = _pointwise(1, config.width, key=keys[0])
    self.stack = DilatedStack(config, key=keys[1])
    self.output = _pointwise(config.width, 3 * config.bins - 1, key=keys[2])
    self.output.weight[...] = jnp.zeros_like(self.output.weight[...])  # starts as one fixed spline

  def forward(self, pairs: Pairs, valid: Valid, known: Hidden) -> Flowed:
    """Returns the pairs with the second channel bent."""
    bent = bend(self._spline(pairs, valid, known), pairs[..., 1])
    return Flowed(self._joined(pairs, bent.values, valid), (bent.log_slopes * valid).sum(1))

  def backward(self, pairs: Pairs, valid: Valid, known: Hidden) -> Pairs:
    """Returns the pairs that `forward` bent."""
    return self._joined(pairs, unbend(self._spline(pairs, valid, known), pairs[..., 1]).values, valid)

  def _spline(self, pairs: Pairs, valid: Valid, known: Hidden):
    hidden = self.stack(self.input(pairs[..., :1]) + known, valid)
    numbers = self.output(hidden) * valid[..., None]
    return make_spline(numbers, bound=self.bound, divisor=math.sqrt(hidden.shape[-1]))

  def _joined(self, pairs: Pairs, second: Valid, valid: Valid) -> Pairs:
    return jnp.stack([pairs[..., 0], second], axis=-1) * valid[..., None]


class DurationPredictor(nnx.Module):
  """Durations of units given their hidden states: drawn by `log_durations`, scored by `negative_log_likelihood`."""

  def __init__(self, config: DurationPredictorConfig, *, key: Key):
    self.config = config
    keys = iter(jax.random.split(key, 7 + 2 * config.num_flows))
    self.input = _pointwise(config.width, config.width, key=next(keys))
    self.condition = _pointwise(config.condition, config.width, key=next(keys)) if config.condition else None
    self.stack = DilatedStack(config, key=next(keys))
    self.output = _pointwise(config.width, config.width, key=next(keys))
    self.affine = Affine()
    self.flows = nnx.List(SplineFlow(config, key=next(keys)) for _ in range(config.num_flows))
    self.posterior_input = _pointwise(1, config.width, key=next(keys))
    self.posterior_stack = DilatedStack(config, key=next(keys))
    self.posterior_output = _pointwise(config.width, config.width, key=next(keys))
    self.posterior_affine = Affine()
    self.posterior_flows = nnx.List(SplineFlow(config, key=next(keys)) for _ in range(config.num_flows))

  @typed
  def log_durations(self, hidden: Hidden, valid: Valid, condition: Condition | None, *, noise: Pairs) -> Valid:
    """Returns the logarithms of durations in frames, which depend on the noise; zero where `valid` is.

    Args:
      hidden: states of the units.
      valid: 1 on units, 0 on padding.
      condition: of the whole utterance; None leaves it out.
      noise: standard normal, times the scale that the caller wants (VITS: 0.8).
    """
    known = self._known(hidden, valid, condition, key=None)
    pairs = noise * valid[..., None]
    for flow in reversed(self.flows[1:]):
      pairs = flow.backward(pairs[..., ::-1], valid, known)
    return self.affine.backward(pairs[..., ::-1], valid)[..., 0]

  @typed
  def negative_log_likelihood(
    self,
    hidden: Hidden,
    valid: Valid,
    condition: Condition | None,
    *,
    durations: Valid,
    noise: Pairs,
    key: Key | None = None,
  ) -> Float[Array, "B"]:
    """Returns an upper bound on the negative log-likelihood of each row's durations (in nats, one draw of the noise).

    Args:
      hidden: states of the units.
      valid: 1 on units, 0 on padding.
      condition: of the whole utterance; None leaves it out.
      durations: whole frames of each unit, at least one.
      noise: standard normal.
      key: of dropout; None leaves everything in.
    """
    keys, mask = keys_of(key, 2), valid[..., None]
    known = self._known(hidden, valid, condition, key=keys[0])
    heard = self.posterior_stack(
      self.posterior_input(durations[..., None]), valid, dropout=self.config.dropout, key=keys[1]
    )
    noise = noise * mask
    posterior = _forward(
      self.posterior_affine, self.posterior_flows, noise, valid, known + self.posterior_output(heard) * mask
    )
    fraction, second = posterior.pairs[..., 0], posterior.pairs[..., 1]
    # The change of variables of the sigmoid that makes a fraction of a frame of the first channel.
    squashed = ((jax.nn.log_sigmoid(fraction) + jax.nn.log_sigmoid(-fraction)) * valid).sum(1)
    entropy = -0.5 * ((_LOG_TWO_PI + noise**2) * mask).sum((1, 2)) - posterior.log_determinant - squashed
    continuous = (durations - jax.nn.sigmoid(fraction)) * valid
    logs = jnp.log(jnp.maximum(continuous, _LEAST_DURATION)) * valid
    prior = _forward(self.affine, self.flows, jnp.stack([logs, second], axis=-1), valid, known)
    squares = 0.5 * ((_LOG_TWO_PI + prior.pairs**2) * mask).sum((1, 2))
    return squares - prior.log_determinant + logs.sum(1) + entropy

  def _known(self, hidden: Hidden, valid: Valid, condition: Condition | None, *, key: Key | None) -> Hidden:
    x = self.input(jax.lax.stop_gradient(hidden))
    if condition is not None:
      assert self.condition is not None, "a condition is given where the config has one"
      x = x + self.condition(jax.lax.stop_gradient(condition)[:, None])
    return self.output(self.stack(x, valid, dropout=self.config.dropout, key=key)) * valid[..., None]


def _pointwise(inputs: int, outputs: int, *, key: Key) -> Linear:
  return Linear(inputs, outputs, axes=("embed", "mlp"), bias=True, key=key)


def _forward(affine: Affine, flows: nnx.List, pairs: Pairs, valid: Valid, known: Hidden) -> Flowed:
  pairs, total = affine.forward(pairs, valid)
  for flow in flows:
    pairs, log_determinant = flow.forward(pairs, valid, known)
    pairs, total = pairs[..., ::-1], total + log_determinant
  return Flowed(pairs, total)
