"""From gradients to unit-sized steps, before decay and learning rate: AdamW, Muon, Adafactor.

A parameter's own number of dimensions is the number of axes it names (`nn.parameter`), whatever layer axis a stack put
in front: the layers of a stack, and experts, are matrices of their own.

    algorithm   what it remembers of a matrix [n, m]
    adamw       2 n m numbers
    muon        n m, and as adamw of tables and vectors
    adafactor   n + m, and n m of momentum unless beta1 is 0
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

# Muon's update is rescaled to the root mean square of an AdamW update (Liu et al., arXiv 2502.16982, section 2.2), so
# that one learning rate serves both.
_MUON_RMS = 0.2
_DECAY_POWER = 0.8  # Adafactor, arXiv 1804.04235, section 7.2: the memory of step t is 1 - t ** -0.8
_ROUNDING = 0  # seed of what is rounded at random; the step is folded in
_LARGEST_RMS = 1.0  # of an Adafactor update, section 6


class Parameter(NamedTuple):
  """What the optimizer needs to know of a parameter."""

  shape: tuple[int, ...]
  axes: tuple[str | None, ...]  # its own logical axes; one fewer than the dimensions in a stack

  @property
  def stacked(self) -> bool:
    """Whether a leading layer axis stands before its own axes."""
    return len(self.shape) == len(self.axes) + 1

  @property
  def own(self) -> tuple[int, ...]:
    """The dimensions over which it is one thing: all but layers and experts."""
    first = int(self.stacked) + self.axes.count("experts")
    return tuple(range(first, len(self.shape)))


def adam(
  *, beta1: float, beta2: float, eps: float, dtype: str, second_dtype: str = "float32"
) -> optax.GradientTransformation:
  """Returns Adam (arXiv 1412.6980), its first moment in `dtype`, its second in `second_dtype`.

  The second moment moves by a thousandth at each step (1 - beta2), less than bfloat16 can tell: rounded to the nearest
  it would stand still. So it is rounded at random, up as likely as it is near (arXiv 2010.06192, section 3).
  """
  plain = optax.scale_by_adam(b1=beta1, b2=beta2, eps=eps, mu_dtype=dtype)
  if second_dtype == "float32":
    return plain

  def narrow(state: Any) -> Any:
    key = jax.random.fold_in(jax.random.key(_ROUNDING), state.count)
    leaves, structure = jax.tree.flatten(state.nu)
    rounded = [round_randomly(leaf, jax.random.fold_in(key, number)) for number, leaf in enumerate(leaves)]
    return state._replace(nu=jax.tree.unflatten(structure, rounded))

  def update(updates: Any, state: Any, params: Any = None) -> Any:
    wide = state._replace(nu=jax.tree.map(lambda leaf: leaf.astype(jnp.float32), state.nu))
    updates, state = plain.update(updates, wide, params)
    return updates, narrow(state)

  return optax.GradientTransformation(lambda params: narrow(plain.init(params)), update)


def round_randomly(value: jax.Array, key: jax.Array) -> jax.Array:
  """Returns float32 as one of its two neighbours in bfloat16, whose mean over keys is the value itself."""
  bits = jax.lax.bitcast_convert_type(value.astype(jnp.float32), jnp.uint32)
  up = bits + jax.random.bits(key, value.shape, jnp.uint16).astype(jnp.uint32)
  # bfloat16 is the upper half of a float32: adding a number below half carries into it as often as it should.
  rounded = jax.lax.bitcast_convert_type(up & jnp.uint32(0xFFFF0000), jnp.float32)
  return jnp.where(jnp.isfinite(value), rounded, value).astype(jnp.bfloat16)


def muon(
  parameters: dict[str, Parameter], *, steps: int, rest: optax.GradientTransformation, dtype: str
) -> optax.GradientTransformation:
  """Returns Muon (Jordan 2024) for hidden matrices and convolutions, and `rest` for tables and vectors."""
  matrices = {path: numbers for path, parameter in parameters.items() if (numbers := _matrix(parameter)) is not None}

  def numbers_of(updates: Any) -> Any:
    return {path: x if isinstance(x, optax.MaskedNode) else matrices[path] for path, x in updates.items()}

  # The checker is silenced because optax's alias leaves out functions of a dict, which its documentation allows.
  orthogonal = optax.contrib.scale_by_muon(ns_steps=steps, mu_dtype=dtype, weight_dimension_numbers=numbers_of)  # pyright: ignore[reportArgumentType]
  labels = {path: "muon" if path in matrices else "adam" for path in parameters}
  sizes = {path: _MUON_RMS * math.sqrt(_larger_side(parameters[path])) for path in matrices}
  return optax.chain(optax.partition({"muon": orthogonal, "adam": rest}, labels), scale_by_path(sizes))


def adafactor(
  parameters: dict[str, Parameter], *, beta1: float, beta2: float, dtype: str
) -> optax.GradientTransformation:
  """Returns Adafactor (arXiv 1804.04235) with momentum, as big_vision trains with it.

  Deviation: updates are not scaled by the size of their parameter, so that a learning rate means what it means for
  AdamW. The memory of the second moment grows no longer than that of `beta2`. Momentum of `beta1` is kept in `dtype`.
  """

  def memory(step: Any, power: Any) -> Any:
    return jnp.minimum(1.0 - (step + 1.0) ** -power, beta2)

  def update(updates: Any, params: Any) -> Any:
    del params
    return {path: _at_most(x, _LARGEST_RMS, over=parameters[path].own) for path, x in updates.items()}

  return optax.chain(
    optax.scale_by_factored_rms(decay_rate=_DECAY_POWER, decay_rate_fn=memory),
    optax.stateless(update),
    optax.ema(beta1, debias=False, accumulator_dtype=dtype) if beta1 else optax.identity(),
  )


def scale_by_path(scales: dict[str, Any]) -> optax.GradientTransformation:
  """Returns the transformation that multiplies the update of each path named."""
  scales = {path: jnp.asarray(scale, jnp.float32) if np.ndim(scale) else float(scale) for path, scale in scales.items()}

  def update(updates: Any, params: Any) -> Any:
    del params
    # A parameter that follows others is masked where the directions of those that learn are made.
    own = {path for path, x in updates.items() if path in scales and not isinstance(x, optax.MaskedNode)}
    return {path: x * scales[path] if path in own else x for path, x in updates.items()}

  return optax.stateless(update)


def _at_most(update: Any, largest: float, *, over: tuple[int, ...]) -> Any:
  rms = jnp.sqrt(jnp.mean(update**2, axis=over, keepdims=True))
  return update / jnp.maximum(rms / largest, 1.0)


def _matrix(parameter: Parameter) -> optax.contrib.MuonDimensionNumbers | None:
  """Returns which dimensions are inputs and outputs of a hidden matrix or convolution; None for tables and biases."""
  if len(parameter.axes) not in (2, 3) or "vocab" in parameter.axes or "embed" not in parameter.axes:
    return None
  *inputs, output = parameter.own
  return optax.contrib.MuonDimensionNumbers(tuple(inputs), output)


def _larger_side(parameter: Parameter) -> int:
  own = [parameter.shape[dimension] for dimension in parameter.own]
  return max(math.prod(own[:-1]), own[-1])
