"""DeepSeekMoE (arXiv 2401.06066): many small experts, a few chosen for each token, and some that serve every token.

Follows `DeepseekV2MoE` in EMOVA's `deepseek_vl2/modeling_deepseek.py`: scores are a softmax over all experts in
float32, the best `num_chosen` are taken (greedy) and weigh their experts by their scores, not renormalised; the shared
experts are one gated network of their joint width.

Two ways to compute the same:

- dropless (`capacity_factor` None): token copies are put in order of their experts and multiplied group by group
  (`jax.lax.ragged_dot`). Nothing is dropped. The groups are known only at run time, so experts split over devices are
  gathered first: for one device, or meshes whose `expert` axis is 1.
- by capacity: each row gives each expert `ceil(capacity_factor * T * num_chosen / num_experts)` places, filled in order
  of position, best choice first; a choice that finds none is left out (the shared experts still serve its token), as
  in GShard (arXiv 2006.16668). All shapes are fixed, so each device computes its own experts, [B, E, places, D] split
  over the `expert` axis. A factor of `num_experts / num_chosen` drops nothing.

Padding takes no place and does not count in the balance.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Bool, Float, Int

from omni_jax.core.arrays import Array, Hidden, Key, Scalar, typed
from omni_jax.core.sharding import constrain
from omni_jax.nn.feed_forward import GatedFeedForward
from omni_jax.nn.linear import Linear
from omni_jax.nn.parameter import weight

Choices = Int[Array, "B T k"]
ChoiceWeights = Float[Array, "B T k"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpertsConfig:
  """Dimensions of a layer of experts.

  Attributes:
    num_experts: to choose from.
    num_chosen: experts of each token.
    num_shared: experts that serve every token.
    mlp_dim: inner width of one expert.
    balance_weight: of the loss that keeps the experts equally busy.
    capacity_factor: places per expert and row, as a multiple of an equal share; None for as many as it takes.
  """

  num_experts: int
  num_chosen: int
  num_shared: int
  mlp_dim: int
  balance_weight: float
  capacity_factor: float | None = None

  def __post_init__(self):
    assert 1 <= self.num_chosen <= self.num_experts, f"{self.num_chosen} of {self.num_experts} experts"
    assert self.num_shared >= 1, "at least one expert is shared"
    assert self.capacity_factor is None or self.capacity_factor > 0, f"capacity_factor {self.capacity_factor}"

  def places(self, length: int) -> int:
    """Returns how many tokens of a row of `length` one expert takes."""
    assert self.capacity_factor is not None, "dropless experts have no places"
    return min(length, math.ceil(self.capacity_factor * length * self.num_chosen / self.num_experts))


class Experts(nnx.Module):
  """Takes the place of the gated network in a decoder block."""

  def __init__(self, config: ExpertsConfig, *, width: int, key: Key):
    router, gate, up, down, shared = jax.random.split(key, 5)
    self.config = config
    inwards, outwards = ("experts", "embed", "mlp"), ("experts", "mlp", "embed")
    shape = (config.num_experts, width, config.mlp_dim)
    self.router = Linear(width, config.num_experts, axes=("embed", None), bias=False, key=router)
    self.gate = weight(gate, shape, axes=inwards, fan_in=width)
    self.up = weight(up, shape, axes=inwards, fan_in=width)
    self.down = weight(down, (shape[0], shape[2], shape[1]), axes=outwards, fan_in=config.mlp_dim)
    self.shared = GatedFeedForward(width=width, mlp_dim=config.num_shared * config.mlp_dim, key=shared)

  @typed
  def __call__(self, x: Hidden, is_real: Bool[Array, "B T"]) -> tuple[Hidden, Scalar]:
    """Returns what is added to the residual stream, and the balance loss of this layer with its weight."""
    scores = jax.nn.softmax(x.astype(jnp.float32) @ self.router.weight[...].astype(jnp.float32), axis=-1)
    weights, chosen = jax.lax.top_k(scores, self.config.num_chosen)
    compute = self._dropless if self.config.capacity_factor is None else self._by_capacity
    routed = compute(x, chosen, weights, is_real)
    return routed.astype(x.dtype) + self.shared(x), self.config.balance_weight * balance(scores, chosen, is_real)

  def _dropless(self, x: Hidden, chosen: Choices, weights: ChoiceWeights, is_real: Array) -> Array:
    del is_real  # padding is computed like any token; nobody waits for its place
    copies = chosen.reshape(-1)
    order = jnp.argsort(copies, stable=True)
    sizes = jnp.bincount(copies, length=self.config.num_experts).astype(jnp.int32)
    rows = x.reshape(-1, x.shape[-1])[order // self.config.num_chosen]
    gate = jax.lax.ragged_dot(rows, self.gate[...], sizes)
    up = jax.lax.ragged_dot(rows, self.up[...], sizes)
    out = jax.lax.ragged_dot(jax.nn.silu(gate) * up, self.down[...], sizes)
    out = out[jnp.argsort(order)].reshape(*chosen.shape, -1)
    return jnp.einsum("BTkD,BTk->BTD", out, weights)

  def _by_capacity(self, x: Hidden, chosen: Choices, weights: ChoiceWeights, is_real: Array) -> Array:
    num_experts, places = self.config.num_experts, self.config.places(x.shape[1])
    slots, taken = assign(chosen, is_real, num_experts=num_experts, places=places)
    token = jnp.broadcast_to(jnp.arange(x.shape[1])[None, :, None], chosen.shape)
    row = jnp.arange(x.shape[0])[:, None]
    nobody = x.shape[1]  # the index of no token: reads as zeros
    tokens = jnp.full((x.shape[0], num_experts * places), nobody)
    tokens = tokens.at[row, slots.reshape(x.shape[0], -1)].set(token.reshape(x.shape[0], -1), mode="drop")
    given = x.at[row, tokens].get(mode="fill", fill_value=0).reshape(x.shape[0], num_experts, places, -1)
    given = constrain(given, ("batch", "experts", None, None))
    gate = jnp.einsum("BECD,EDF->BECF", given, self.gate[...])
    up = jnp.einsum("BECD,EDF->BECF", given, self.up[...])
    out = jnp.einsum("BECF,EFD->BECD", jax.nn.silu(gate) * up, self.down[...])
    out = constrain(out, ("batch", "experts", None, None)).reshape(x.shape[0], num_experts * places, -1)
    back = out.at[row[..., None], slots].get(mode="fill", fill_value=0)
    return jnp.einsum("BTkD,BTk->BTD", back, weights * taken)


@typed
def assign(
  chosen: Choices, is_real: Bool[Array, "B T"], *, num_experts: int, places: int
) -> tuple[Choices, Bool[Array, "B T k"]]:
  """Returns for every choice its slot, `expert * places + place`, and whether it got one.

  A choice without a place has the slot `num_experts * places`, which does not exist.
  """
  wanted = jax.nn.one_hot(chosen, num_experts, dtype=jnp.int32) * is_real[:, :, None, None]
  before = jnp.cumsum(wanted.reshape(chosen.shape[0], -1, num_experts), axis=1).reshape(wanted.shape) - wanted
  place = jnp.take_along_axis(before, chosen[..., None], axis=-1)[..., 0]
  taken = (place < places) & is_real[:, :, None]
  return jnp.where(taken, chosen * places + place, num_experts * places), taken


@typed
def balance(scores: Float[Array, "B T E"], chosen: Choices, is_real: Bool[Array, "B T"]) -> Scalar:
  """Returns DeepSeek's sequence-level balance loss, 1 where choices and scores are even (arXiv 2405.04434, 2.2.3).

  For each row, the sum over experts of (share of the choices x number of experts) x (mean score), over real positions;
  then the mean over rows that have any. A packed row counts as one sequence.
  """
  num_experts, num_chosen = scores.shape[-1], chosen.shape[-1]
  real = is_real.astype(jnp.float32)
  count = jnp.maximum(real.sum(1), 1.0)[:, None]
  choices = jnp.einsum("BTkE,BT->BE", jax.nn.one_hot(chosen, num_experts), real)
  share = choices * num_experts / (count * num_chosen)
  mean = jnp.einsum("BTE,BT->BE", scores, real) / count
  return (share * mean).sum() / jnp.maximum((real.sum(1) > 0).sum(), 1).astype(jnp.float32)
