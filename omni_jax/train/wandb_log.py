"""What a run says, also to Weights & Biases (https://wandb.ai): the scalars of its log, and its sounds.

A stage is one run there, whichever life of it writes: its id lies in the stage folder, as `wandb.txt`. Values stand
over the training's own step, since a life that goes on from an earlier step says some of them again. With
WANDB_MODE=offline all stays in the stage folder, for `wandb sync` later; the service is found by wandb's own variables.
"""

import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole


class WandbLog:
  """One run of a project."""

  def __init__(self, stage_folder: Path, *, project: str, card: dict[str, Any]):
    """Begins or goes on.

    Args:
      stage_folder: of the run; its name is the run's.
      project: at Weights & Biases.
      card: what the run was made from, shown as its config.

    Raises:
      UserError: the package is missing, or the service lets nobody in.
    """
    try:
      import wandb
      from wandb.errors import Error
    except ImportError as error:
      raise UserError(
        "the package `wandb` is missing",
        where="--wandb",
        rule="it is an extra",
        remedy="pip install 'omni_jax[wandb]', or leave --wandb out: TensorBoard's events are written in any case",
      ) from error
    self._wandb = wandb
    mode: Any = os.environ.get("WANDB_MODE")  # read anew: wandb keeps the one that its process began with
    try:
      self._run = wandb.init(
        project=project,
        name=stage_folder.name,
        id=_identity(stage_folder / "wandb.txt"),
        mode=mode,
        resume=None if mode == "offline" else "allow",
        dir=stage_folder,
        config=card,
        settings=wandb.Settings(console="off", silent=True),
      )
    except Error as error:
      raise UserError(
        f"Weights & Biases: {error}",
        where=f"--wandb {project}",
        rule="the service takes this run",
        remedy="run `wandb login`, or set WANDB_MODE=offline and upload later by `wandb sync`",
      ) from error
    self._run.define_metric("step")
    self._run.define_metric("*", step_metric="step")

  def scalars(self, step: int, line: dict[str, float]) -> None:
    """Takes a line of the log, `step` among its values."""
    self._run.log(line)

  def sound(self, step: int, name: str, samples: np.ndarray, *, sample_rate: int) -> None:
    """Takes a sound, float32 [A]."""
    self._run.log({"step": step, f"sounds/{name}": self._wandb.Audio(samples, sample_rate=sample_rate)})

  def close(self) -> None:
    """Waits until everything is sent."""
    self._run.finish()


def _identity(path: Path) -> str:
  if not path.exists():
    write_whole(path, secrets.token_hex(8) + "\n")
  return path.read_text().strip()
