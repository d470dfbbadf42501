"""What a recording must be before a speech encoder reads it on the host."""

import numpy as np

from omni_jax.core.errors import UserError


def check_recording(waveform: np.ndarray, *, where: str, fewest: int = 1) -> None:
  """Raises a UserError unless `waveform` is one channel [A] of at least `fewest` samples, all of them finite numbers.

  Args:
    waveform: as it came.
    where: which recording this is, for the message.
    fewest: samples that the analysis needs.
  """
  array = np.asarray(waveform)
  shaped = array.ndim == 1 and array.size >= fewest
  if not shaped or not np.isfinite(array).all():
    raise UserError(
      f"{array.size - np.isfinite(array).sum()} samples that are not finite"
      if shaped
      else f"a waveform of shape {array.shape}",
      where=where,
      rule=f"one channel of at least {fewest} samples, every sample a finite number",
      remedy="mix the channels down (prepare.audio does), or leave the recording out",
    )
