"""XLA's compilation cache on disk: the second start of a stage, and every later verb, skips the compiler."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

DEFAULT_FOLDER = Path("~/.cache/omni_jax/xla")


def enable_compilation_cache() -> Path:
  """Turns the cache on for this process and returns its folder: `JAX_COMPILATION_CACHE_DIR`, or DEFAULT_FOLDER.

  Called by the command line, never by importing: a library does not choose where its user's files go.
  """
  folder = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or DEFAULT_FOLDER.expanduser())
  jax.config.update("jax_compilation_cache_dir", str(folder))
  # By default only compilations of a second and more are kept; a tiny model has none of these on a fast machine.
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
  # JAX settles on a cache at the first compilation; whatever compiled before this call must not keep it off.
  compilation_cache.reset_cache()
  return folder


@contextmanager
def compiling_afresh() -> Iterator[None]:
  """Compiles inside without the cache: what comes from it leaves no dump, and cannot be written to a file on a CPU."""
  settings: Any = jax.config  # its names are made when jax is imported
  was = settings.jax_enable_compilation_cache
  jax.config.update("jax_enable_compilation_cache", False)
  compilation_cache.reset_cache()
  try:
    yield
  finally:
    jax.config.update("jax_enable_compilation_cache", was)
    compilation_cache.reset_cache()
