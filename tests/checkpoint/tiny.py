"""A model of two arrays and the stage folder that training would leave of it."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from omni_jax.checkpoint import store
from omni_jax.checkpoint.card import make_card, write_card
from omni_jax.nn.parameter import weight

ALONE = jax.sharding.SingleDeviceSharding(jax.devices()[0])


@dataclasses.dataclass(frozen=True, kw_only=True)
class TinyConfig:
  width: int

  def make(self, *, key):
    return Tiny(self, key=key)


class Tiny(nnx.Module):
  def __init__(self, config, *, key):
    self.first = weight(key, (3, config.width), axes=("embed", "mlp"), fan_in=3)
    self.last = weight(key, (config.width,), axes=("mlp",), fan_in=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TinyRun:
  model: TinyConfig
  folder: str = "none"
  steps: int = 3
  mesh: str = ""


def abstract(params):
  return {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=ALONE) for path, leaf in params.items()}


def card_of(run, workdir="w", starts=()):
  return make_card(run, workdir=workdir, ignored=("mesh",), starts=starts)


def make_stage(folder, *, width=4, steps=(1,), keep=1, value=1.0):
  """Writes a stage as training does; returns its parameters."""
  write_card(folder, card_of(TinyRun(model=TinyConfig(width=width))))
  params = {"first": jnp.full((3, width), value), "last": jnp.full((width,), value)}
  opened = store.Store(folder, keep=keep)
  for step in steps:
    opened.save(step, params=params, moments=(jnp.ones(()),), position={"step": step})
  opened.close()
  return params
