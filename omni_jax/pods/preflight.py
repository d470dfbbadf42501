"""Before a training begins: is every host of the machine here, with its chips, the same source, and the same time?

A host that is missing makes the others wait for ever without a word; better a minute spent here, and a status that
tells the launcher whether to start again elsewhere.
"""

import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.files import source_hash

_CLOCK_SECONDS = 60  # clocks may differ by this: file times and logs are compared across hosts


class Host(NamedTuple):
  """What one process sees."""

  devices: int  # its own
  seconds: float  # its clock, since 1970
  source: int  # 63 bits of the hash of its Python files


class LostHost(UserError):
  """A machine that is not whole: another one may be."""


def look() -> Host:
  """Returns what this process sees."""
  return Host(jax.local_device_count(), time.time(), source_hash(Path(__file__).parents[1]))


def gather(host: Host) -> list[Host]:
  """Returns what each process sees, in their order; every process of the job calls it."""
  from jax.experimental import multihost_utils

  # Devices compute with 32 bits: wide numbers travel in halves.
  source = np.array([host.source >> 42, host.source >> 21 & 0x1FFFFF, host.source & 0x1FFFFF], np.int32)
  row = np.array([host.devices, int(host.seconds), *source], np.int32)
  rows = np.asarray(multihost_utils.process_allgather(row)).reshape(-1, len(row)).tolist()
  return [Host(devices, seconds, a << 42 | b << 21 | c) for devices, seconds, a, b, c in rows]


def check(hosts: list[Host], *, processes: int, devices: int) -> str:
  """Returns one line about a machine that is whole.

  Args:
    hosts: from `gather`.
    processes: expected.
    devices: expected of all together.

  Raises:
    LostHost: processes or devices are missing.
    UserError: hosts hold different sources or times.
  """
  if len(hosts) != processes:
    raise LostHost(
      f"{len(hosts)} processes", where="job", rule=f"this machine has {processes}",
      remedy="start the command on every host (--worker=all), and let the launcher replace what does not answer",
    )  # fmt: skip
  found = sum(host.devices for host in hosts)
  if found != devices:
    usual = max(set(counts := [host.devices for host in hosts]), key=counts.count)
    odd = [number for number, host in enumerate(hosts) if host.devices != usual]
    raise LostHost(
      f"{found} devices; odd are hosts {odd or 'none'}", where="job", rule=f"this machine has {devices}",
      remedy="another process may hold the chips of a host; let the launcher replace it",
    )  # fmt: skip
  odd = [number for number, host in enumerate(hosts) if host.source != hosts[0].source]
  if odd:
    raise UserError(
      f"hosts {odd} have another source than host 0", where="omni_jax/", rule="all hosts run the same files",
      remedy="send the source to all of them again",
    )  # fmt: skip
  apart = max(host.seconds for host in hosts) - min(host.seconds for host in hosts)
  if apart > _CLOCK_SECONDS:
    raise UserError(
      f"clocks differ by {apart:.0f} s", where="job", rule=f"at most {_CLOCK_SECONDS} s",
      remedy="set the time of all hosts, for example with chrony",
    )  # fmt: skip
  return f"{len(hosts)} hosts, {found} devices, one source, clocks within {apart:.0f} s"
