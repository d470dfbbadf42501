"""Units -> what is known of their sound: the prior encoder of VITS, a transformer with relative positions.

Attention is global; the 2 W + 1 nearest offsets have a key and a value of their own, shared by all heads (Shaw et al.,
arXiv 1803.02155). Norms come after each sum, and the feed-forward network is two convolutions over time. Reference
files: VITS `attentions.py` and `models.py` (`TextEncoder`), transformers `modeling_vits.py` (`VitsTextEncoder`).
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float

from omni_jax.core.arrays import Array, Hidden, Key, Units, typed
from omni_jax.nn.convolution import Convolution
from omni_jax.nn.dropout import drop, keys_of
from omni_jax.nn.linear import Linear
from omni_jax.nn.norm import LayerNorm
from omni_jax.nn.parameter import table
from omni_jax.nn.stack import fold, stack

_EPS = 1e-5
_HIDDEN_SCORE = -1e4  # of a key that is padding, as VITS has it

Valid = Float[Array, "B T"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitEncoderConfig:
  """Sizes of the encoder.

  Attributes:
    vocab_size: rows of the table of units, symbols before them included.
    width: of the hidden states.
    mlp_dim: channels between the two convolutions of a layer.
    num_heads: of attention.
    depth: layers.
    taps: of the convolutions.
    window: offsets on each side that have keys and values of their own.
    latent: channels of the prior.
    dropout: share left out in training, of attention, of channels and of what a layer adds.
  """

  vocab_size: int
  width: int
  mlp_dim: int
  num_heads: int
  depth: int
  taps: int
  window: int
  latent: int
  dropout: float = 0.0

  def __post_init__(self):
    assert self.width % self.num_heads == 0, f"width {self.width} over {self.num_heads} heads"

  def make(self, *, key: Key) -> "UnitEncoder":
    """Returns a new encoder."""
    return UnitEncoder(self, key=key)


class Prior(NamedTuple):
  """Hidden states of units, and mean and logarithm of the deviation of each latent channel of their frames."""

  hidden: Hidden
  mean: Float[Array, "B T C"]
  log_deviation: Float[Array, "B T C"]


class RelativeAttention(nnx.Module):
  """Global attention in which near positions are also told apart by their offset."""

  def __init__(self, config: UnitEncoderConfig, *, key: Key):
    self.num_heads, self.window = config.num_heads, config.window
    keys = jax.random.split(key, 6)
    width, head_dim = config.width, config.width // config.num_heads
    inner, outer = ("embed", "heads"), ("heads", "embed")
    self.query = Linear(width, width, axes=inner, bias=True, key=keys[0])
    self.key = Linear(width, width, axes=inner, bias=True, key=keys[1])
    self.value = Linear(width, width, axes=inner, bias=True, key=keys[2])
    self.output = Linear(width, width, axes=outer, bias=True, key=keys[3])
    near, deviation = (2 * config.window + 1, head_dim), head_dim**-0.5
    self.near_keys = table(keys[4], near, axes=(None, None), deviation=deviation)
    self.near_values = table(keys[5], near, axes=(None, None), deviation=deviation)

  def __call__(self, x: Hidden, valid: Valid, *, dropout: float, key: Key | None) -> Hidden:
    """Returns what every position reads from the valid ones."""
    queries = self._heads(self.query(x)) * (x.shape[-1] // self.num_heads) ** -0.5
    keys, values = self._heads(self.key(x)), self._heads(self.value(x))
    scores = jnp.einsum("bnth,bnsh->bnts", queries, keys)
    scores = scores + self._to_positions(jnp.einsum("bnth,oh->bnto", queries, self.near_keys[...]))
    scores = jnp.where(valid[:, None, None, :] > 0, scores, _HIDDEN_SCORE)
    weights = drop(jax.nn.softmax(scores, axis=-1), dropout, key=key)
    read = jnp.einsum("bnts,bnsh->bnth", weights, values)
    read = read + jnp.einsum("bnto,oh->bnth", self._to_offsets(weights), self.near_values[...])
    return self.output(read.swapaxes(1, 2).reshape(x.shape))

  def _heads(self, x: Hidden) -> Array:
    rows, length, width = x.shape
    return x.reshape(rows, length, self.num_heads, width // self.num_heads).swapaxes(1, 2)

  def _to_positions(self, by_offset: Array) -> Array:
    """Returns [B, N, T, S], where position s of row t holds offset s - t, and zero beyond the window."""
    places = jnp.arange(by_offset.shape[-2])
    offset = places[None, :] - places[:, None] + self.window
    near = (offset >= 0) & (offset <= 2 * self.window)
    index = jnp.clip(offset, 0, 2 * self.window)[None, None]
    return jnp.where(near, jnp.take_along_axis(by_offset, index, axis=-1), 0.0)

  def _to_offsets(self, by_position: Array) -> Array:
    """Returns [B, N, T, 2 W + 1], where offset o of row t holds position t + o - W, and zero outside the row."""
    length = by_position.shape[-1]
    place = jnp.arange(length)[:, None] + jnp.arange(-self.window, self.window + 1)[None]
    inside = (place >= 0) & (place < length)
    index = jnp.clip(place, 0, length - 1)[None, None]
    return jnp.where(inside, jnp.take_along_axis(by_position, index, axis=-1), 0.0)


class EncoderLayer(nnx.Module):
  """norm(x + attention(x)), then norm(x + convolution(relu(convolution(x))))."""

  def __init__(self, config: UnitEncoderConfig, *, key: Key):
    keys = jax.random.split(key, 3)
    self.dropout = config.dropout
    self.attention = RelativeAttention(config, key=keys[0])
    self.attention_norm = LayerNorm(width=config.width, eps=_EPS)
    self.up = Convolution(config.width, config.mlp_dim, taps=config.taps, key=keys[1])
    self.down = Convolution(config.mlp_dim, config.width, taps=config.taps, key=keys[2])
    self.feed_forward_norm = LayerNorm(width=config.width, eps=_EPS)

  def __call__(self, x: Hidden, valid: Valid, *, key: Key | None = None) -> Hidden:
    """Returns units of the same shape; those of padding mean nothing."""
    keys, mask, rate = keys_of(key, 4), valid[..., None], self.dropout
    y = self.attention(x, valid, dropout=rate, key=keys[0])
    x = self.attention_norm(x + drop(y, rate, key=keys[1]))
    y = drop(jax.nn.relu(self.up(x * mask)), rate, key=keys[2])
    return self.feed_forward_norm(x + drop(self.down(y * mask) * mask, rate, key=keys[3]))


class UnitEncoder(nnx.Module):
  """Ids of units -> their prior."""

  def __init__(self, config: UnitEncoderConfig, *, key: Key):
    self.config = config
    keys = jax.random.split(key, 3)
    shape = (config.vocab_size, config.width)
    self.table = table(keys[0], shape, axes=("vocab", "embed"), deviation=config.width**-0.5)
    self.layers = stack(lambda one: EncoderLayer(config, key=one), depth=config.depth, key=keys[1])
    self.output = Linear(config.width, 2 * config.latent, axes=("embed", "mlp"), bias=True, key=keys[2])

  @typed
  def __call__(self, ids: Units, valid: Valid, *, key: Key | None = None) -> Prior:
    """Returns the prior of every unit, zero where `valid` is; ids outside the table are clipped (callers check).

    Args:
      ids: rows of the table.
      valid: 1 on units, 0 on padding.
      key: of dropout; None leaves everything in.
    """
    mask = valid[..., None]
    x = jnp.take(self.table[...], ids, axis=0, mode="clip") * math.sqrt(self.config.width) * mask
    x = fold(self.layers, (x, key), valid, call=_layer)[0] * mask
    mean, log_deviation = jnp.split(self.output(x) * mask, 2, axis=-1)
    return Prior(x, mean, log_deviation)


def _layer(layer: EncoderLayer, state: tuple[Hidden, Key | None], valid: Valid) -> tuple[Hidden, Key | None]:
  x, key = state
  own, rest = keys_of(key, 2)
  return layer(x, valid, key=own), rest
