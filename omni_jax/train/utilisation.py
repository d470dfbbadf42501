"""What share of the devices' peak a run uses (MFU): useful products over what all devices could do in the same time.

Which products count, `products.py` says; those that are computed twice to save memory are not useful. Rows count whole,
padding and masked attention included.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from omni_jax.core import trees
from omni_jax.core.topologies import GENERATIONS
from omni_jax.train.adversarial import Adversarial
from omni_jax.train.optimizer import make_optimizer
from omni_jax.train.products import Products, count_products
from omni_jax.train.state import describe

# Dense products in bfloat16 summed in float32, teraflops, by words of the name that JAX gives the device, more words
# first. Source: NVIDIA's data sheets, whose figures with sparsity are twice these.
_GPUS = {
  "GB200": 2500, "B200": 2250, "GH200": 989, "H200 NVL": 835, "H200": 989, "H100 PCIe": 756, "H100 NVL": 835,
  "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "A10G": 70,
}  # fmt: skip

# Where the plain form is traced: without kernels, whose products are not read, and without collectives.
_PLAIN = jax.sharding.AbstractMesh(
  (1,), ("data",), abstract_device=jax.sharding.AbstractDevice(device_kind="cpu", num_cores=None, platform="cpu")
)


class Useful(NamedTuple):
  """Floating-point operations of a step on all devices, without what is computed twice; of them those of attention."""

  total: float
  attention: float


def useful_operations(run: Any, batch: Mapping[str, Any]) -> Useful:
  """Returns the useful operations of a step of a run whose loss is a function, for a batch of arrays or shapes.

  Counted from the plain form of the program on one device: with recomputation of layers switched off, and less the
  chunks of the loss, which compute their logits again. Nothing is computed.
  """
  plain = dataclasses.replace(run, model=_kept(run.model))
  gradient, forward = (_count(plain, batch, backward=backward) for backward in (True, False))
  return Useful(gradient.total - forward.recomputed, gradient.attention)


def all_operations(run: Any, batch: Mapping[str, Any]) -> Products:
  """Returns the operations of such a step as it runs."""
  return _count(run, batch, backward=True)


def peak_teraflops(device: jax.Device) -> float | None:
  """Returns the peak of a device in bfloat16; None where it is not known."""
  kind = device.device_kind
  tpu = next((one.teraflops for one in GENERATIONS.values() if one.device_kind == kind), None)
  return tpu or next((float(peak) for name, peak in _GPUS.items() if re.search(rf"\b{name}\b", kind)), None)


class Utilisation:
  """How long the steps of a run would take at the peak of its devices."""

  def __init__(self, run: Any, *, teraflops: float | None, devices: int):
    """Counts nothing yet.

    Args:
      run: a `loop.Run`.
      teraflops: peak of one device; without, and for a vocoder with its critics, nothing is counted.
      devices: of the mesh.
    """
    self._run, self._peak = run, 1e12 * devices * (teraflops or 0.0)
    self._useful: dict[Any, float] = {}  # by the shapes of a batch
    self._counts = bool(teraflops) and not isinstance(run.loss, Adversarial)

  def least_seconds(self, batch: Mapping[str, Any]) -> float:
    """Returns the seconds of a step over this batch at the peak; 0 where nothing is counted.

    A batch of new shapes is traced, which takes the host seconds for a large model.
    """
    if not self._counts:
      return 0.0
    shapes = tuple((name, array.shape) for name, array in sorted(batch.items()))
    if shapes not in self._useful:
      self._useful[shapes] = useful_operations(self._run, batch).total
    return self._useful[shapes] / self._peak


def _count(run: Any, batch: Mapping[str, Any], *, backward: bool) -> Products:
  model = jax.eval_shape(lambda: run.model.make(key=jax.random.key(0)))
  frozen = make_optimizer(run.optimizer, parameters=describe(model), steps=run.steps).frozen
  leaves = trees.flatten(model)
  learning = {path: leaf for path, leaf in leaves.items() if path not in frozen}
  rest = {path: leaf for path, leaf in leaves.items() if path in frozen}
  shapes = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in batch.items()}

  def loss(learning: Any, rest: Any, batch: Any) -> Any:
    return run.loss(trees.unflatten(model, {**learning, **rest}), batch, jax.random.key(0))[0]

  with jax.sharding.use_abstract_mesh(_PLAIN):
    return count_products(jax.grad(loss) if backward else loss, learning, rest, shapes)


def _kept(config: Any) -> Any:
  """Returns a config with every layer kept for the backward pass."""
  if not dataclasses.is_dataclass(config) or isinstance(config, type):
    return config
  fields = {field.name: _kept(getattr(config, field.name)) for field in dataclasses.fields(config)}
  changed = {name: value for name, value in fields.items() if value is not getattr(config, name)}
  changed |= {"remat": False} if "remat" in fields else {}
  return dataclasses.replace(config, **changed) if changed else config
