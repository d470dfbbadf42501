"""A training step of a plain decoder as this repository compiles it for a pod, beside MaxText's own.

Both sides: the same shape, rows, length, AdamW with clipping, float32 parameters and moments, bfloat16 products, the
layers recomputed as named, parameters split over all devices. Ours is compiled here. MaxText's is read from what its
compiler dumped, by the same parser; its own environment (Python 3.12) makes that dump:

    XLA_FLAGS="--xla_dump_to=DUMP --xla_dump_hlo_as_text --xla_dump_hlo_module_re=.*step.*" DECOUPLE_GCLOUD=TRUE \\
    JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 python -m maxtext.trainers.pre_train.train_compile BASE.yml \\
      model_name=llama3.1-8b compile_topology=v5p-32 compile_topology_num_slices=1 per_device_batch_size=1 \\
      max_target_length=8192 remat_policy=full dataset_type=synthetic enable_checkpointing=false

    python tools/compare_plan.py --shape llama3.1-8b --topology v5p-32 [--maxtext DUMP]

Needs libtpu (any machine; some minutes of processor time). Nothing is run on a device.
"""

import argparse
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp

from omni_jax.core.errors import UserError
from omni_jax.core.topologies import Topology, find_topology
from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.language import NO_IMAGES, LanguageConfig
from omni_jax.models.sizes import LLAMA_3_1_8B, QWEN2_5_7B
from omni_jax.plan.collectives import Collective, read_collectives
from omni_jax.plan.program import compiled_text, find_devices, temporaries_of
from omni_jax.plan.report import Plan, make_plan
from omni_jax.plan.scheduled import ScheduledProgram
from omni_jax.pods.flags import compiler_options
from omni_jax.train.loop import Run
from omni_jax.train.losses import next_token
from omni_jax.train.optimizer import OptimizerConfig
from omni_jax.train.step import StepConfig

SHAPES: dict[str, DecoderConfig] = {"llama3.1-8b": LLAMA_3_1_8B, "qwen2.5-7b": QWEN2_5_7B}
GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shaped:
  """Rows of tokens that are only shapes."""

  rows: int
  length: int

  def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns a batch as shapes."""
    whole = {
      name: jax.ShapeDtypeStruct((self.rows, self.length), jnp.int32)
      for name in ("tokens", "targets", "positions", "segment_ids")
    }
    return {**whole, "loss_mask": jax.ShapeDtypeStruct((self.rows, self.length), jnp.float32)}


def main() -> None:
  """Prints both sides."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--shape", choices=SHAPES, default="llama3.1-8b")
  parser.add_argument("--topology", default="v5p-32")
  parser.add_argument("--mesh", default="", help="ours; all devices on fsdp if absent")
  parser.add_argument("--rows", type=int, default=1, help="for each device (1)")
  parser.add_argument("--length", type=int, default=8192)
  parser.add_argument("--remat", default="full")
  parser.add_argument("--quick", action="store_true", help="half of our compile: no cycles")
  parser.add_argument("--maxtext", type=Path, metavar="DUMP", help="folder of its compiler's dump")
  parser.add_argument("--maxtext-cpu-seconds", type=float, metavar="S", help="that its compile took")
  arguments = parser.parse_args()
  topology = find_topology(arguments.topology)
  jax.config.update("jax_platforms", "cpu")
  plan = ours(topology, arguments)
  columns = {"omni_jax": rows_of_plan(plan)}
  if arguments.maxtext is not None:
    columns["MaxText"] = rows_of_dump(arguments.maxtext, topology, cpu_seconds=arguments.maxtext_cpu_seconds)
  print(
    f"{arguments.shape}, {topology.name}, {arguments.rows} x {arguments.length} a device, remat={arguments.remat}\n"
  )
  print(table(columns))
  if arguments.maxtext is None:
    print("\nMaxText was not compiled and not read: give --maxtext a dump (see --help)")


def ours(topology: Topology, arguments: argparse.Namespace) -> Plan:
  """Returns our plan."""
  decoder = dataclasses.replace(SHAPES[arguments.shape], remat=arguments.remat)
  run = Run(
    name=arguments.shape,
    model=LanguageConfig(decoder=decoder, image_token=NO_IMAGES),
    loss=next_token,
    optimizer=OptimizerConfig(learning_rate=1e-4, clip_norm=1.0),
    data=Shaped(rows=arguments.rows * topology.devices, length=arguments.length),
    steps=1,
    mesh=arguments.mesh,
    step=StepConfig(compute_dtype="bfloat16"),
  )
  options = compiler_options(topology)
  return make_plan(run, topology, devices=find_devices(topology), options=options, half=arguments.quick)


def rows_of_plan(plan: Plan) -> dict[str, str]:
  """Returns what is compared."""
  return {
    "arguments, GiB": f"{plan.arguments_gib:.2f}",
    "temporaries, GiB": f"{plan.temporaries_gib:.2f}",
    "peak, GiB": f"{plan.peak_gib:.2f}",
    "million cycles beside kernels": f"{plan.cycles / 1e6:,.0f}" if plan.cycles else "-",
    **{f"{one.kind}, GiB": f"{one.gib:.2f} in {one.times}" for one in plan.travel if one.gib > 0.01},
    "compile, CPU s": f"{plan.compile_seconds:.0f}",
  }


def rows_of_dump(folder: Path, topology: Topology, *, cpu_seconds: float | None) -> dict[str, str]:
  """Returns the same of a dump.

  Raises:
    UserError: the folder holds no dump of a step.
  """
  text, temporaries = compiled_text(folder), temporaries_of(folder)
  if not text or not temporaries:
    raise UserError(
      "no *after_codegen.txt or no *-buffer-assignment.txt", where=folder,
      rule="the compiler's dump of a step lies there", remedy="make it with the XLA_FLAGS of --help",
    )  # fmt: skip
  program = ScheduledProgram(text)
  by_kind: dict[str, list[Collective]] = {}
  for one in read_collectives(program, mesh={"devices": topology.devices}):
    by_kind.setdefault(one.kind, []).append(one)
  travelled = {
    kind: (sum(one.bytes * one.times for one in same) / GIB, sum(one.times for one in same))
    for kind, same in by_kind.items()
  }
  return {
    "temporaries, GiB": f"{temporaries / GIB:.2f}",
    "million cycles beside kernels": f"{program.cycles() / 1e6:,.0f}",
    **{f"{kind}, GiB": f"{size:.2f} in {times}" for kind, (size, times) in travelled.items() if size > 0.01},
    **({} if cpu_seconds is None else {"compile, CPU s": f"{cpu_seconds:.0f}"}),
  }


def table(columns: dict[str, dict[str, str]]) -> str:
  """Returns the rows of all columns beside each other."""
  names = list(dict.fromkeys(name for rows in columns.values() for name in rows))
  lines = ["".join([f"{'':<32}", *(f"{title:>24}" for title in columns)])]
  lines += ["".join([f"{name:<32}", *(f"{rows.get(name, '-'):>24}" for rows in columns.values())]) for name in names]
  return "\n".join(lines)


if __name__ == "__main__":
  main()
