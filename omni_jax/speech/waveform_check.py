"""What a recording must be before a speech encoder reads it on the host."""

import numpy as np

from omni_jax.core.errors import UserError


def check_recording(waveform: np.ndarray, *, where: str, fewest: int = 1) -> np.ndarray:
  """Returns `waveform` as float32 [A]; silence passes, and so do samples beyond -1..1, which nothing cuts off.

  Args:
    waveform: as it came.
    where: which recording this is, for the message.
    fewest: samples that the analysis needs.

  Raises:
    UserError: not one channel of at least `fewest` finite numbers, or whole numbers as in a file of 16 bits, whose
      loudness nobody can know.
  """
  array = np.asarray(waveform)
  shaped = array.ndim == 1 and array.size >= fewest
  if array.size and not np.issubdtype(array.dtype, np.floating):
    raise UserError(
      f"samples of type {array.dtype}",
      where=where,
      rule="samples are floating-point numbers, -1..1 at full loudness",
      remedy="divide int16 by 32768 (prepare.audio reads files so)",
    )
  if not shaped or not np.isfinite(array).all():
    raise UserError(
      f"{array.size - np.isfinite(array).sum()} samples that are not finite"
      if shaped
      else f"a waveform of shape {array.shape}",
      where=where,
      rule=f"one channel of at least {fewest} samples, every sample a finite number",
      remedy="mix the channels down (prepare.audio does), or leave the recording out",
    )
  return array.astype(np.float32, copy=False)
