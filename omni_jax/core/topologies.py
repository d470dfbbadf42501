"""TPU machines by the names people use (`v5p-128`, `2xv6e-256`): shapes, hosts, peaks, and what each tool calls them.

Names of v4, v5p and tpu7x count cores, two to a chip; those of v5e and v6e count chips. Only shapes that can be rented
are known: the compiler also accepts shapes that do not exist.

Sources: Google Cloud's pages of each generation (shapes, peaks, links, runtimes); memory is what the TPU compiler
of libtpu 0.0.52 grants a device. The rate of cycles is the one at which what that compiler expects of a product of
8192 x 8192 x 8192 in bfloat16 comes to nine tenths of the peak: 1.02, 1.54 and 1.75 GHz, where v4, v5e and v5p are said
to run at 1.05, 1.5 and 1.75.
"""

import dataclasses
import math
import re

from omni_jax.core.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation:
  """One kind of TPU.

  Attributes:
    name: as in `v5p-128`.
    shapes: number in the name -> chips along each axis of the torus.
    devices_per_chip: as JAX sees them.
    memory_gib: that a program may use, for each device.
    teraflops: peak in bfloat16, for each device.
    memory_terabytes: read or written each second, for each device.
    link_gigabytes: received each second over all links of the slice together, for each device.
    gigahertz: cycles of a second, where the compiler counts in cycles.
    rented_as: prefix of the accelerator type for queued resources.
    runtime: software version of its virtual machines.
    node_label: accelerator label of its GKE nodes.
    compiled_as: prefix of the topology name for the ahead-of-time compiler.
    device_kind: as JAX names it there.
    chip_config: of the compiler, where its default is not what is rented.
  """

  name: str
  shapes: dict[int, tuple[int, ...]]
  devices_per_chip: int
  memory_gib: float
  teraflops: float
  memory_terabytes: float
  link_gigabytes: float
  gigahertz: float
  rented_as: str
  runtime: str
  node_label: str
  compiled_as: str
  device_kind: str
  chip_config: str = ""


_PLANE = {4: (2, 2), 8: (2, 4), 16: (4, 4), 32: (4, 8), 64: (8, 8), 128: (8, 16), 256: (16, 16)}
_CUBE = {
  8: (2, 2, 1), 16: (2, 2, 2), 32: (2, 2, 4), 64: (2, 4, 4), 128: (4, 4, 4), 256: (4, 4, 8), 512: (4, 8, 8),
  1024: (8, 8, 8), 2048: (8, 8, 16), 4096: (8, 16, 16),
}  # fmt: skip
_V5P = _CUBE | {
  384: (4, 4, 12), 640: (4, 4, 20), 768: (4, 8, 12), 896: (4, 4, 28), 1536: (8, 8, 12), 3072: (8, 12, 16),
  6144: (12, 16, 16), 8192: (16, 16, 16), 12288: (16, 16, 24),
}  # fmt: skip

GENERATIONS = {
  generation.name: generation
  for generation in (
    Generation(
      name="v4", shapes=_CUBE, devices_per_chip=1, memory_gib=30.75, teraflops=275, memory_terabytes=1.2,
      link_gigabytes=300, gigahertz=1.02,
      rented_as="v4", runtime="tpu-ubuntu2204-base", node_label="tpu-v4-podslice", compiled_as="v4",
      device_kind="TPU v4", chip_config="megacore",
    ),
    Generation(
      name="v5e", shapes={1: (1, 1), **_PLANE}, devices_per_chip=1, memory_gib=15.75, teraflops=197,
      memory_terabytes=0.82, link_gigabytes=200, gigahertz=1.54, rented_as="v5litepod", runtime="v2-alpha-tpuv5-lite",
      node_label="tpu-v5-lite-podslice",
      compiled_as="v5e", device_kind="TPU v5 lite",
    ),
    Generation(
      name="v5p", shapes=_V5P, devices_per_chip=1, memory_gib=95.73, teraflops=459, memory_terabytes=2.765,
      link_gigabytes=600, gigahertz=1.75,
      rented_as="v5p", runtime="v2-alpha-tpuv5", node_label="tpu-v5p-slice", compiled_as="v5p", device_kind="TPU v5",
    ),
    Generation(
      name="v6e", shapes={1: (1, 1), **_PLANE}, devices_per_chip=1, memory_gib=31.24, teraflops=918,
      memory_terabytes=1.64, link_gigabytes=400, gigahertz=2.24, rented_as="v6e", runtime="v2-alpha-tpuv6e",
      node_label="tpu-v6e-slice", compiled_as="v6e", device_kind="TPU v6 lite",
    ),
    Generation(
      name="tpu7x", shapes=_CUBE, devices_per_chip=2, memory_gib=94.74, teraflops=1153.5, memory_terabytes=3.69,
      link_gigabytes=300, gigahertz=2.46,
      rented_as="tpu7x", runtime="v2-alpha-tpuv7", node_label="tpu7x", compiled_as="tpu7x", device_kind="TPU7x",
    ),
  )
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Topology:
  """A number of equal slices.

  Attributes:
    generation: kind of TPU.
    number: in the name of a slice.
    slices: of them, joined by the data centre's network.
  """

  generation: Generation
  number: int
  slices: int = 1

  @property
  def name(self) -> str:
    """As people write it."""
    return f"{self.slices}x{self.slice_name}" if self.slices > 1 else self.slice_name

  @property
  def slice_name(self) -> str:
    """The name of one slice."""
    return f"{self.generation.name}-{self.number}"

  @property
  def shape(self) -> tuple[int, ...]:
    """Chips of a slice along each axis of its torus."""
    return self.generation.shapes[self.number]

  @property
  def wraps(self) -> tuple[bool, ...]:
    """Along which axes the last chip is a neighbour of the first: cubes of whole racks, 4 x 4 x 4, and sides of 16."""
    if len(self.shape) == 3:
      return (all(size % 4 == 0 for size in self.shape),) * 3
    return tuple(size == 16 for size in self.shape)

  @property
  def chips(self) -> int:
    """Chips of all slices."""
    return self.slices * math.prod(self.shape)

  @property
  def devices(self) -> int:
    """What `jax.device_count()` will say."""
    return self.chips * self.generation.devices_per_chip

  @property
  def chips_per_host(self) -> int:
    """Chips of one virtual machine: four, but for slices of a single chip and for the planes of eight."""
    chips = math.prod(self.shape)
    return chips if chips == 8 and len(self.shape) == 2 else min(4, chips)

  @property
  def hosts_per_slice(self) -> int:
    """Virtual machines of a slice."""
    return math.prod(self.shape) // self.chips_per_host

  @property
  def hosts(self) -> int:
    """Virtual machines of all slices: what `jax.process_count()` will say."""
    return self.slices * self.hosts_per_slice

  @property
  def accelerator_type(self) -> str:
    """Of a queued resource, for each slice."""
    return f"{self.generation.rented_as}-{self.number}"

  @property
  def node_topology(self) -> str:
    """Topology label of the GKE nodes of a slice."""
    return "x".join(map(str, self.shape))

  @property
  def compiler_name(self) -> str:
    """Of a slice, for `jax.experimental.topologies.get_topology_desc`."""
    return f"{self.generation.compiled_as}:{self.node_topology}"


def find_topology(name: str, *, slices: int = 1) -> Topology:
  """Returns the machine of a name such as `v5p-128` or `2xv6e-256`.

  Raises:
    UserError: there is no such machine, or `slices` contradicts the name.
  """
  found = re.fullmatch(r"(?:(\d+)x)?(v\w+?|tpu\w+?)-(\d+)", name.strip())
  generation = GENERATIONS.get(found[2]) if found else None
  if not found or generation is None:
    raise _unknown(name, f"a machine is GENERATION-NUMBER with a generation among {', '.join(GENERATIONS)}")
  number, named = int(found[3]), int(found[1] or 1)
  if number not in generation.shapes:
    sizes = sorted(generation.shapes, key=lambda size: abs(math.log(size / max(number, 1))))
    nearest = " or ".join(f"{generation.name}-{size}" for size in sorted(sizes[:2]))
    raise _unknown(name, f"sizes of {generation.name} are {', '.join(map(str, sorted(generation.shapes)))}", nearest)
  if found[1] and slices not in (1, named):
    raise _unknown(name, f"the number of slices is said once, here {named} and {slices}")
  if max(named, slices) < 1 or (found[1] and named < 1):
    raise _unknown(name, "there is at least one slice")
  return Topology(generation=generation, number=number, slices=max(named, slices))


def _unknown(name: str, rule: str, nearest: str = "v5p-128 or 2xv6e-256") -> UserError:
  return UserError(f"unknown machine {name!r}", where="topology", rule=rule, remedy=f"for example {nearest}")
