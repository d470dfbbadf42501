"""Which mesh, recomputation and accumulation serve a run on a machine: the likely best are compiled, as many as asked.

Every choice is ranked by a time that needs no compiler, and refused by a memory that it cannot do without:

    time      products at the peak, those computed again with them (`full` a third more, `dots` a tenth), and what must
              travel: the weights, twice gathered and once as gradients, for each part of the batch; under `tensor` the
              stream, six times a layer; under `sequence` keys and values
    memory    weights, their half precision, gradients and moments; of every layer its input (`full`), its products too
              (`dots`: within a tenth of what the compiler found at 7B), or some four times that (`none`)

What is compiled then decides: the shortest step among those that fit.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax

from omni_jax.core import config, sharding
from omni_jax.core.errors import UserError
from omni_jax.core.topologies import Topology
from omni_jax.nn.stack import policy_of
from omni_jax.plan.program import batch_shapes
from omni_jax.plan.report import Plan, make_plan
from omni_jax.train.loop import Run

_REMATS = {"none": 0.0, "dots": 0.1, "full": 1 / 3}  # what is computed again, as a share
_KEPT = {"none": 4, "dots": 1, "full": 0}  # of the products of a layer
_BYTES = 20  # of a weight that learns: itself, two moments and its gradient in float32, and two copies of 16 bits
_ACCUMULATE = (1, 2, 4, 8)


class Choice(NamedTuple):
  """How a run could use a machine; `likely_seconds` of a step rank it."""

  mesh: str
  remat: str
  accumulate: int
  likely_seconds: float

  @property
  def sizes(self) -> dict[str, int]:
    """The mesh by axis."""
    named = (part.split("=") for part in self.mesh.split(","))
    return dict.fromkeys(("replica", "fsdp", "tensor", "sequence"), 1) | {name: int(size) for name, size in named}

  def settings(self, run: Run) -> dict[str, str]:
    """Returns what `--set` would be given."""
    towers = [name for name in ("decoder", "vision") if hasattr(getattr(run.model, name, None), "remat")]
    remats = {f"model.{name}.remat": self.remat for name in towers}
    return {"mesh": self.mesh, **remats, "step.accumulate": str(self.accumulate)}


class Outcome(NamedTuple):
  """A choice, and what came of compiling it: a plan, or why there is none."""

  choice: Choice
  plan: Plan | None
  problem: str

  @property
  def fits(self) -> bool:
    """Whether there is a plan within the memory of a device."""
    return self.plan is not None and self.plan.room_gib >= 0

  def __str__(self) -> str:
    named = f"{self.choice.mesh:<36} remat={self.choice.remat:<5} accumulate={self.choice.accumulate}"
    if self.plan is None:
      return f"{named}  {self.problem}"
    (short, long), (most, least) = self.plan.seconds, self.plan.used_share
    told = f"{short:.3g} to {long:.3g} s a step, {100 * least:.0f} to {100 * most:.0f} % of the peak"
    return f"{named}  {self.plan.peak_gib:.2f} GiB{'' if self.fits else ', too much'}, {told}"


def search(
  run: Run, topology: Topology, *, devices: Sequence[Any], options: dict[str, str], most: int, half: bool = False
) -> Iterator[Outcome]:
  """Yields what came of the likely best choices, one after another; each takes as long as a plan.

  Raises:
    UserError: the run is none of a language model, or no choice divides over the devices.
  """
  for choice in choices(run, topology, devices=len(devices))[:most]:
    chosen = config.replace(run, choice.settings(run))
    try:
      yield Outcome(choice, make_plan(chosen, topology, devices=devices, options=options, half=half), "")
    except UserError as error:
      yield Outcome(choice, None, error.what)


def best(outcomes: Sequence[Outcome]) -> Outcome | None:
  """Returns the shortest step that fits, by the middle of its two times; None if none does."""
  fitting = [outcome for outcome in outcomes if outcome.fits]
  return min(fitting, key=lambda outcome: sum(outcome.plan.seconds) if outcome.plan else math.inf, default=None)


def nearest(
  run: Run, topology: Topology, *, devices: Sequence[Any], options: dict[str, str], wanted: int = 3
) -> list[Outcome]:
  """Returns the choices that fit and change least of how a run uses a machine, the nearest first.

  A step away are twice or half of a mesh axis (which changes two of them) or of the parts of a batch; recomputation,
  which moves nothing, is half a step. What likely needs no less than one that did not fit, neither for weights nor for
  what it keeps, is passed over; else the first half of a compile decides, of at most three times as many as are wanted.

  Raises:
    UserError: the run is none of a language model, or no choice divides over the devices.
  """
  possible = choices(run, topology, devices=len(devices))
  sizes, names = dict(sharding.make_mesh(run.mesh, devices=devices).shape), list(_REMATS)
  remat = policy_of(run.model.decoder.remat)
  remat, parts = (remat if remat in names else "dots"), run.step.accumulate
  size = _Size.of(run)
  too_large = [_likely_needs(size, mesh=sizes, remat=remat, parts=parts)]

  def distance(choice: Choice) -> float:
    there = choice.sizes
    moved = sum(abs(math.log2(number / there.get(name, 1))) for name, number in sizes.items())
    recomputed = abs(names.index(choice.remat) - names.index(remat))
    return moved / 2 + recomputed / 2 + abs(math.log2(choice.accumulate / parts))

  def needs(choice: Choice) -> tuple[float, float]:
    return _likely_needs(size, mesh=choice.sizes, remat=choice.remat, parts=choice.accumulate)

  found: list[Outcome] = []
  tried = 0
  for choice in sorted(possible, key=lambda choice: (distance(choice), choice)):
    if len(found) == wanted or tried == 3 * wanted:
      break
    weights, kept = needs(choice)
    if any(weights >= other and kept >= more for other, more in too_large):
      continue
    tried += 1
    chosen = config.replace(run, choice.settings(run))
    try:
      outcome = Outcome(choice, make_plan(chosen, topology, devices=devices, options=options, half=True), "")
    except UserError as error:
      outcome = Outcome(choice, None, error.what)
    if outcome.fits:
      found.append(outcome)
    else:
      too_large.append((weights, kept))
  return found


def choices(run: Run, topology: Topology, *, devices: int) -> list[Choice]:
  """Returns every choice that divides devices, heads and rows and may fit, the likely best first.

  Raises:
    UserError: the run is none of a language model, or nothing divides.
  """
  decoder = getattr(run.model, "decoder", None)
  if decoder is None or "tokens" not in batch_shapes(run):
    raise UserError(
      f"a {type(run.model).__name__}", where=f"run {run.name!r}", rule="meshes are searched for language models",
      remedy="plan it with --mesh",
    )  # fmt: skip
  size = _Size.of(run)
  found = [
    Choice(mesh, remat, parts, _likely_seconds(size, topology, mesh=sizes, remat=remat, parts=parts, devices=devices))
    for sizes, mesh in _meshes(size, devices=devices, slices=topology.slices)
    for parts in _ACCUMULATE
    if size.rows % (sizes["replica"] * sizes["fsdp"] * parts) == 0
    for remat in _REMATS
    if _likely_gib(size, mesh=sizes, remat=remat, parts=parts) <= topology.generation.memory_gib
  ]
  if not found:
    raise UserError(
      f"{size.rows} rows on {devices} devices", where="plan --search",
      rule="a mesh divides rows, heads and positions, and holds weights and moments",
      remedy="change data.rows, or take another machine",
    )  # fmt: skip
  return sorted(found, key=lambda choice: (choice.likely_seconds, choice.accumulate))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Size:
  """What of a run ranks its choices."""

  rows: int
  length: int
  weights: int
  heads: tuple[int, ...]
  depth: int
  width: int
  kv: int
  layers: tuple[tuple[int, int, int], ...]  # of each tower: numbers of all inputs, of products as wide, of split ones

  @classmethod
  def of(cls, run: Run) -> "_Size":
    decoder, vision = run.model.decoder, getattr(run.model, "vision", None)
    rows, length = batch_shapes(run)["tokens"].shape[:2]
    leaves = jax.tree.leaves(jax.eval_shape(lambda: run.model.make(key=jax.random.key(0))))
    batch = batch_shapes(run)
    layers = [_layers(decoder, positions=rows * length, gated=True)]
    if "patches" in batch and vision is not None and hasattr(vision, "mlp_dim"):
      layers.append(_layers(vision, positions=math.prod(batch["patches"].shape[:3]), gated=False))
    heads = (decoder.num_heads, decoder.num_kv_heads, getattr(vision, "num_heads", decoder.num_heads))
    return cls(
      rows=rows, length=length, weights=sum(math.prod(leaf.shape) for leaf in leaves), heads=heads,
      depth=decoder.depth, width=decoder.width, kv=2 * decoder.num_kv_heads * decoder.head_dim, layers=tuple(layers),
    )  # fmt: skip


def _meshes(size: _Size, *, devices: int, slices: int) -> Iterator[tuple[dict[str, int], str]]:
  """Yields the meshes whose axes divide what they split."""
  within = devices // slices
  powers = [2**power for power in range(within.bit_length()) if within % 2**power == 0]
  for tensor in powers:
    for sequence in powers:
      fsdp = within // (tensor * sequence)
      divides = all(heads % tensor == 0 for heads in size.heads) and size.length % sequence == 0
      if fsdp and fsdp * tensor * sequence == within and divides:
        sizes = {"replica": slices, "fsdp": fsdp, "tensor": tensor, "sequence": sequence}
        yield sizes, ",".join(f"{name}={value}" for name, value in sizes.items() if value > 1) or "fsdp=1"


def _likely_seconds(
  size: _Size, topology: Topology, *, mesh: dict[str, int], remat: str, parts: int, devices: int
) -> float:
  """Returns the seconds that rank a choice: products and travel one after another."""
  generation = topology.generation
  places = size.rows * size.length
  products = 6 * size.weights * places * (1 + _REMATS[remat]) / (devices * generation.teraflops * 1e12)
  own = places / (devices / mesh["tensor"])  # positions of a device; those of `tensor` share them
  gathered = 3 * 2 * size.weights / mesh["tensor"] * (1 - 1 / mesh["fsdp"]) * parts
  stream = 6 * size.depth * own * size.width * 2 * 2 * (1 - 1 / mesh["tensor"])
  keys = 3 * size.depth * own * mesh["sequence"] * size.kv / mesh["tensor"] * 2 * (1 - 1 / mesh["sequence"])
  return products + (gathered + stream + keys) / (generation.link_gigabytes * 1e9)


def _layers(tower: Any, *, positions: int, gated: bool) -> tuple[int, int, int]:
  """Returns how many numbers all layers take in, and how many their products of that width and of others make."""
  attention, number = tower.attention, positions * tower.depth
  inner = (attention.num_heads + 2 * attention.num_kv_heads) * attention.head_dim + (1 + gated) * tower.mlp_dim
  return number * tower.width, 2 * number * tower.width, number * inner


def _likely_gib(size: _Size, *, mesh: dict[str, int], remat: str, parts: int) -> float:
  """Returns what a device likely needs."""
  return sum(_likely_needs(size, mesh=mesh, remat=remat, parts=parts))


def _likely_needs(size: _Size, *, mesh: dict[str, int], remat: str, parts: int) -> tuple[float, float]:
  """Returns what a device likely needs for weights and keeps, GiB; `tensor` splits products of other widths."""
  pieces = mesh["replica"] * mesh["fsdp"] * mesh["sequence"] * parts
  kept = 0.0
  for inputs, wide, inner in size.layers:
    products = wide + inner / mesh["tensor"]
    kept += 2 * (inputs + _KEPT[remat] * products) / pieces
  return _BYTES * size.weights / (mesh["fsdp"] * mesh["tensor"]) / 2**30, kept / 2**30
