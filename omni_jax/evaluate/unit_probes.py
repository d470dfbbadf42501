"""Small networks that read units: what a listener who only has the units could tell of phones, or of style.

Both see what a language model sees: units without repetitions, as ids without an order. The same network, steps and
recordings for every tokenizer, so that what differs is the units.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from omni_jax.core import trees
from omni_jax.core.arrays import Array, Float, Int, Key, Units, bucket, typed
from omni_jax.nn.convolution import Convolution, FrameNorm, ResidualConvolution, zero_padding
from omni_jax.nn.parameter import table
from omni_jax.speech.unit_reader import greedy_phones
from omni_jax.train.optimizer import OptimizerConfig, make_optimizer
from omni_jax.train.speech_losses import ctc_sum
from omni_jax.train.state import describe

# A unit that stands for several phones may give as many: without repetitions there may be fewer units than phones.
_READINGS = 2
_SHORTEST = 32  # units of a batch; longer ones are padded to 64, 128, ...
_WARMUP_STEPS = 20

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeConfig:
  """Size and training of a probe.

  Attributes:
    width, depth, taps: of its convolutions.
    steps, rows: batches, and recordings in each.
    learning_rate: at the peak.
    seed: of its weights and of the order of the recordings.
  """

  width: int = 128
  depth: int = 2
  taps: int = 5
  steps: int = 400
  rows: int = 32
  learning_rate: float = 2e-3
  seed: int = 0


class UnitReader(nnx.Module):
  """Units to numbers for each of them."""

  def __init__(self, config: ProbeConfig, *, codebook_size: int, outputs: int, key: Key):
    keys = jax.random.split(key, config.depth + 2)
    self.table = table(keys[0], (codebook_size, config.width), axes=("vocab", "embed"), deviation=0.1)
    self.blocks = nnx.List([ResidualConvolution(config.width, taps=config.taps, key=own) for own in keys[2:]])
    self.norm = FrameNorm(config.width)
    self.head = Convolution(config.width, outputs, taps=1, key=keys[1])

  @typed
  def __call__(self, units: Units, lengths: Int[Array, "B"]) -> Float[Array, "B U K"]:
    """Returns [B, U, outputs], zero past the `lengths` of each row."""
    x = zero_padding(self.table[...][units], lengths)
    for block in self.blocks:
      x = block(x, lengths)
    return zero_padding(self.head(self.norm(x)), lengths)


def read_phones(
  config: ProbeConfig,
  *,
  codebook_size: int,
  units: Sequence[np.ndarray],
  phones: Sequence[Sequence[int]],
  num_phones: int,
  test: Sequence[np.ndarray],
) -> list[list[int]]:
  """Returns the phone ids that a reader, trained by CTC on `units` and their `phones`, finds in each row of `test`.

  Args:
    config: of the reader.
    codebook_size: ids of units lie below it.
    units: reduced units [U] of each training recording.
    phones: ids of each.
    num_phones: ids lie below it.
    test: reduced units of the recordings to read.
  """
  longest = max(len(row) for row in phones)
  padded = np.zeros((len(phones), longest), np.int32)
  for place, row in enumerate(phones):
    padded[place, : len(row)] = row
  labels = {"phones": padded, "num_phones": np.array([len(row) for row in phones], np.int32)}
  classes = num_phones + 1
  reader = _fit(config, _phone_loss, codebook_size=codebook_size, outputs=_READINGS * classes, units=units, **labels)
  logits = _read(reader, test, rows=config.rows)
  return [greedy_phones(row.reshape(-1, classes)) for row in logits]


def tell_parts(
  config: ProbeConfig,
  *,
  codebook_size: int,
  units: Sequence[np.ndarray],
  labels: np.ndarray,
  sizes: tuple[int, ...],
  test: Sequence[np.ndarray],
) -> np.ndarray:
  """Returns the classes [len(test), P] that a listener trained on `units` and their `labels` tells.

  Args:
    config: of the listener.
    codebook_size: ids of units lie below it.
    units: reduced units [U] of each training recording.
    labels: int [N, P], the class of each recording in each of P parts (gender, emotion, ...).
    sizes: classes of each part.
    test: reduced units of the recordings to judge.
  """
  assert labels.shape == (len(units), len(sizes)), f"labels of shape {labels.shape}"
  loss = _PartLoss(sizes)
  given = {"labels": labels.astype(np.int32)}
  listener = _fit(config, loss, codebook_size=codebook_size, outputs=sum(sizes), units=units, **given)
  sums = [row.sum(0) for row in _read(listener, test, rows=config.rows)]
  return np.array([[part.argmax() for part in np.split(row, np.cumsum(sizes)[:-1])] for row in sums])


def _phone_loss(model: UnitReader, batch: dict[str, Array]) -> Array:
  logits = model(batch["units"], batch["lengths"])
  frames = logits.reshape(logits.shape[0], _READINGS * logits.shape[1], -1)
  total, count = ctc_sum(frames, _READINGS * batch["lengths"], phones=batch["phones"], num_phones=batch["num_phones"])
  return total / count


@dataclasses.dataclass(frozen=True)
class _PartLoss:
  """Cross entropy of each part; a recording's logits are the mean of those of its units."""

  sizes: tuple[int, ...]

  def __call__(self, model: UnitReader, batch: dict[str, Array]) -> Array:
    lengths = batch["lengths"]
    means = model(batch["units"], lengths).sum(1) / jnp.maximum(lengths, 1)[:, None]
    total = jnp.zeros(())
    for place, part in enumerate(jnp.split(means, np.cumsum(self.sizes)[:-1], axis=-1)):
      total += optax.softmax_cross_entropy_with_integer_labels(part, batch["labels"][:, place]).mean()
    return total


def _fit(
  config: ProbeConfig,
  loss: Callable[[UnitReader, Any], Array],
  *,
  codebook_size: int,
  outputs: int,
  units: Sequence[np.ndarray],
  **labels: np.ndarray,
) -> UnitReader:
  """Returns a trained reader."""
  make, transform, step = _training(config, loss, codebook_size, outputs)
  model = make(jax.random.key(config.seed))
  parameters = trees.flatten(model)
  moments = transform.init(parameters)
  for chosen in _deal([len(row) for row in units], config):
    batch = _padded([units[place] for place in chosen]) | {name: own[chosen] for name, own in labels.items()}
    parameters, moments = step(parameters, moments, batch)
  return trees.unflatten(model, parameters)


@functools.cache  # so that tokenizers with as many units share what is compiled
def _training(config: ProbeConfig, loss: Callable, codebook_size: int, outputs: int) -> tuple[Any, Any, Any]:
  """Returns what makes a reader of a key, the transform of its gradients, and the step that moves it by a batch."""
  make = jax.jit(lambda key: UnitReader(config, codebook_size=codebook_size, outputs=outputs, key=key))
  shapes = jax.eval_shape(make, jax.random.key(0))
  settings = OptimizerConfig(
    learning_rate=config.learning_rate, weight_decay=0.01, clip_norm=1.0, warmup_steps=min(_WARMUP_STEPS, config.steps)
  )
  transform = make_optimizer(settings, parameters=describe(shapes), steps=config.steps).transform

  @jax.jit
  def step(parameters: Any, moments: Any, batch: dict[str, Array]) -> tuple[Any, Any]:
    gradient = jax.grad(lambda own: loss(trees.unflatten(shapes, own), batch))(parameters)
    updates, moments = transform.update(gradient, moments, parameters)
    return optax.apply_updates(parameters, updates), moments

  return make, transform, step


def _deal(lengths: Sequence[int], config: ProbeConfig) -> Iterator[np.ndarray]:
  """Yields the places of the recordings of each step: of about the same length, epoch after epoch in a new order."""
  generator, done = np.random.default_rng(config.seed), 0
  rows = min(config.rows, len(lengths))
  while True:
    order = np.argsort(np.asarray(lengths) * generator.uniform(0.9, 1.1, len(lengths)), kind="stable")
    batches = [order[start : start + rows] for start in range(0, len(order) - rows + 1, rows)]
    for place in generator.permutation(len(batches)):
      if done == config.steps:
        return
      yield batches[place]
      done += 1


def _padded(units: Sequence[np.ndarray]) -> Batch:
  lengths = np.array([len(row) for row in units], np.int32)
  padded = np.zeros((len(units), bucket(int(lengths.max(initial=1)), smallest=_SHORTEST)), np.int32)
  for place, row in enumerate(units):
    padded[place, : len(row)] = row
  return {"units": padded, "lengths": lengths}


def _read(model: UnitReader, units: Sequence[np.ndarray], *, rows: int) -> list[np.ndarray]:
  """Returns the numbers [U, outputs] of each row."""
  found: list[np.ndarray] = [np.zeros(0)] * len(units)
  order = sorted(range(len(units)), key=lambda place: len(units[place]))
  for start in range(0, len(order), rows):
    chosen = order[start : start + rows]
    # The last group is filled up with its last recording, so that every group has as many.
    filled = chosen + [chosen[-1]] * (rows - len(chosen))
    batch = _padded([units[place] for place in filled])
    numbers = np.asarray(_jit_read(model, batch["units"], batch["lengths"]))
    for place, row in zip(chosen, numbers, strict=False):
      found[place] = row[: len(units[place])]
  return found


@jax.jit
def _jit_read(model: UnitReader, units: Array, lengths: Array) -> Array:
  return model(units, lengths)
