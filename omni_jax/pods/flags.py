"""What the TPU runtime and compiler are told, for each generation: few flags, each with its reason.

One function makes the launch's `LIBTPU_INIT_ARGS` and, without the flags that only a runtime knows, the options of an
ahead-of-time compile: what is planned is what runs. An unknown flag stops libtpu from loading, so every set here is
compiled for its generation by `tests/pods/test_flags.py` where libtpu is installed.

Left out with reason: continuation fusion (`xla_tpu_enable_async_collective_fusion` with its `fuse_all_*`), part of
published sets, is refused by libtpu 0.0.52 on all but v5e; collectives on SparseCore gave others wrong losses.
"""

from typing import NamedTuple

from omni_jax.core.topologies import Topology


class Flag(NamedTuple):
  """One flag with its reason."""

  name: str
  value: str
  reason: str
  runtime_only: bool = False  # no option of a compile

  def __str__(self) -> str:
    return f"--{self.name}={self.value}"


_ASYNC_GATHER = Flag("xla_enable_async_all_gather", "true", "parameters of the next layer are gathered during this one")
_VMEM = "scratch memory of a core: larger tiles of matrix products and attention"

_BY_GENERATION = {
  "v4": (),
  "v5e": (_ASYNC_GATHER,),
  "v5p": (Flag("xla_tpu_scoped_vmem_limit_kib", "65472", _VMEM), _ASYNC_GATHER),
  "v6e": (
    Flag("xla_tpu_scoped_vmem_limit_kib", "98304", _VMEM),
    Flag("xla_latency_hiding_scheduler_rerun", "2", "scheduled again with less memory where it does not fit"),
  ),
  "tpu7x": (
    Flag("xla_tpu_scoped_vmem_limit_kib", "65536", _VMEM),
    Flag("xla_tpu_bf16_emission_mode", "NATIVE_EMISSION", "bfloat16 arithmetic in the unit that has it"),
  ),
}

_SLICES = (
  Flag("xla_tpu_enable_data_parallel_all_reduce_opt", "true", "gradients cross the data centre while others are made"),
  Flag("xla_tpu_data_parallel_opt_different_sized_ops", "true", "the same for gradients of different sizes"),
  Flag(
    "megascale_grpc_premap_memory_bytes", "17179869184",
    "16 GiB of host memory ready for transfers; with the 4 GiB of the default others saw steps of twice the time",
    runtime_only=True,
  ),
  Flag(
    "megascale_graph_hang_threshold", "10m", "a slice that waits this long for another says so", runtime_only=True
  ),
  Flag(
    "megascale_abort_on_hangs", "true", "and ends, so that the launcher starts the job again", runtime_only=True
  ),
  Flag("megascale_abort_on_errors", "true", "the same for a failed transfer", runtime_only=True),
)  # fmt: skip


def flags(topology: Topology) -> tuple[Flag, ...]:
  """Returns every flag of a launch on this machine."""
  return _BY_GENERATION[topology.generation.name] + (_SLICES if topology.slices > 1 else ())


def compiler_options(topology: Topology) -> dict[str, str]:
  """Returns the same as options of `jax.stages.Lowered.compile`, for a plan without the machine."""
  return {flag.name: flag.value for flag in flags(topology) if not flag.runtime_only}


def environment(topology: Topology) -> dict[str, str]:
  """Returns the environment of every process of a launch on this machine.

  Where processes find each other is not here: JAX reads it from the machine (metadata server, GKE, Slurm).
  """
  args = " ".join(map(str, flags(topology)))
  return {
    "JAX_PLATFORMS": "tpu,cpu",  # a host that does not see its chips fails at once, instead of training on its CPU
    "TPU_STDERR_LOG_LEVEL": "0",
    "TPU_MIN_LOG_LEVEL": "0",  # what libtpu says goes to the job's log
    **({"LIBTPU_INIT_ARGS": args} if args else {}),
  }
