"""What may happen to a save: the store is full, fails, or does not answer in time. Earlier checkpoints stay."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from omni_jax.core.errors import UserError
from omni_jax.core.processes import is_loss

_FULL = ("no space left", "enospc", "disk quota", "resource_exhausted")
# What tensorstore says of a store that does not do what it is asked; it raises ValueError for all of it.
_FAILED = ("permission_denied", "unavailable", "deadline_exceeded", "input/output error", "not_found", "timed out")


@contextlib.contextmanager
def saving_errors(folder: Path, step: int | None) -> Iterator[None]:
  """Tells what a disk or a bucket did to a save.

  Args:
    folder: of the checkpoints.
    step: that is saved; None: the one under way.

  Raises:
    UserError: there is no room, or the folder cannot be written. Other errors pass.
  """
  try:
    yield
  except Exception as error:
    told = str(error).lower()
    is_full = any(sign in told for sign in _FULL)
    if is_loss(error) or not (is_full or isinstance(error, OSError) or any(sign in told for sign in _FAILED)):
      raise
    which = "the checkpoint under way" if step is None else f"the checkpoint of step {step}"
    if is_full:
      raise UserError(
        f"the disk is full: {which} was not saved ({error})",
        where=folder,
        rule="a save needs room for parameters and moments beside the checkpoint before it",
        remedy="free space and run the same command again: it goes on from the last complete checkpoint",
      ) from error
    raise UserError(
      f"{which} was not saved ({type(error).__name__}: {str(error)[:400]})",
      where=folder,
      rule="a save needs a folder that can be written, and ends within twenty minutes",
      remedy="see that disk or bucket answer, then run the same command again: it goes on from the last complete one",
    ) from error
