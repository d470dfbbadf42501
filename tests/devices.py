"""Processes of their own: the number of devices is fixed when a process starts."""

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent


def environment(devices: int = 1) -> dict[str, str]:
  """Returns the environment of a process with so many CPU devices that finds the packages and the tests."""
  flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
  return os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
