"""What a recording must be before a speech encoder reads it on the host."""

import numpy as np

from omni_jax.core.errors import UserError


def check_recording(waveform: np.ndarray, *, where: str) -> None:
  """Raises a UserError unless `waveform` is one channel [A] of at least one sample, all of them finite numbers.

  Args:
    waveform: as it came.
    where: which recording this is, for the message.
  """
  array = np.asarray(waveform)
  shaped = array.ndim == 1 and array.size > 0
  if not shaped or not np.isfinite(array).all():
    raise UserError(
      "samples that are not finite" if shaped else f"a waveform of shape {array.shape}",
      where=where,
      rule="one channel of at least one sample, every sample a finite number",
      remedy="mix the channels down (prepare.audio does), or leave the recording out",
    )
