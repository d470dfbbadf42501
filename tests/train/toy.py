"""A toy model, toy data and runs over them, importable by the processes that tests start."""

import dataclasses
import os
import signal
import time
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from omni_jax.nn.parameter import constant, table, weight
from omni_jax.nn.stack import fold, stack
from omni_jax.train.loop import Run, train
from omni_jax.train.losses import next_token
from omni_jax.train.optimizer import OptimizerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyConfig:
  width: int
  depth: int
  vocab_size: int

  def make(self, *, key):
    return Toy(self, key=key)


class Block(nnx.Module):
  def __init__(self, config, *, key):
    up, down = jax.random.split(key)
    self.norm = constant(1.0, (config.width,), axes=("embed",))
    self.up = weight(up, (config.width, 2 * config.width), axes=("embed", "mlp"), fan_in=config.width)
    self.down = weight(down, (2 * config.width, config.width), axes=("mlp", "embed"), fan_in=2 * config.width)

  def __call__(self, x):
    normed = x * self.norm[...] * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)
    return x + jax.nn.gelu(normed @ self.up[...]) @ self.down[...]


class Toy(nnx.Module):
  """Predicts the next token from the last two."""

  def __init__(self, config, *, key):
    keys = jax.random.split(key, 3)
    self.config = config
    self.tokens = table(keys[0], (config.vocab_size, config.width), axes=("vocab", "embed"), deviation=0.5)
    self.blocks = stack(lambda key: Block(config, key=key), depth=config.depth, key=keys[1])
    self.head = weight(keys[2], (config.width, config.vocab_size), axes=("embed", "vocab"), fan_in=config.width)

  def hidden(self, batch):
    x = self.tokens[...][batch["tokens"]]
    return fold(self.blocks, x + jnp.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1])

  def logits(self, hidden):
    return hidden @ self.head[...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyData:
  rows: int
  length: int
  vocab_size: int
  seed: int = 0
  bad_from: int = 10**9  # from this record on, the weights are infinite
  num_records: int = 64
  endless: bool = True

  def record(self, index):
    generator = np.random.default_rng((self.seed, index))
    start, stride = generator.integers(0, self.vocab_size, 2)
    tokens = (start + stride * np.arange(self.length + 1)) % self.vocab_size
    loss_mask = np.ones(self.length, np.float32) * (np.inf if index >= self.bad_from else 1)
    return {
      "tokens": tokens[:-1].astype(np.int32),
      "targets": tokens[1:].astype(np.int32),
      "loss_mask": loss_mask,
      "segment_ids": np.ones(self.length, np.int32),
      "target_kind": (1 + np.arange(self.length) % 3).astype(np.int32),
    }

  def open(self):
    dataset = grain.MapDataset.range(self.num_records)
    if self.bad_from > self.num_records:
      dataset = dataset.shuffle(seed=self.seed)
    dataset = dataset.repeat() if self.endless else dataset
    return dataset.map(self.record).to_iter_dataset().batch(self.rows, drop_remainder=True)


def noisy_loss(model, batch, key):
  """The next-token loss with noise on the mask: a step that draws random numbers."""
  keep = jax.random.bernoulli(key, 0.9, batch["loss_mask"].shape)
  return next_token(model, {**batch, "loss_mask": batch["loss_mask"] * keep}, key)


def make_run(**changes):
  fields = {
    "name": "toy",
    "model": ToyConfig(width=16, depth=2, vocab_size=32),
    "loss": noisy_loss,
    "optimizer": OptimizerConfig(learning_rate=1e-2, warmup_steps=3, weight_decay=0.01, clip_norm=1.0),
    "data": ToyData(rows=8, length=12, vocab_size=32),
    "steps": 8,
    "log_every": 1,
    "save_every": 4,
    "mesh": "",
  }
  return Run(**{**fields, **changes})


@dataclasses.dataclass(frozen=True, kw_only=True)
class KillingData(ToyData):
  """Sends this process a signal once, after some batches of its first life."""

  after_batches: int
  signal_name: str
  mark: Path  # exists from the second life on

  def open(self):
    return super().open().map(self._count)

  def _count(self, batch):
    served = int(os.environ.get("TOY_SERVED", "0")) + 1
    os.environ["TOY_SERVED"] = str(served)
    if served == self.after_batches and not self.mark.exists():
      self.mark.write_text("")
      os.kill(os.getpid(), getattr(signal, self.signal_name))
      time.sleep(0.2)
    return batch


def main(workdir, *, signal_name="none", after_batches=0, **changes):
  """Trains the toy run, stopped by the signal in its first life."""
  data = ToyData(rows=8, length=12, vocab_size=32)
  if signal_name != "none":
    fields = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
    mark = Path(workdir) / "mark"
    data = KillingData(**fields, after_batches=after_batches, signal_name=signal_name, mark=mark)
  train(make_run(data=data, **changes), Path(workdir))
