"""What excites the vocal tract: pulses at the fundamental frequency, and noise; both flat in spectrum, of unit power.

The pulses are the sum of all harmonics below Nyquist in closed form (the Dirichlet kernel), the highest faded in, so
that nothing jumps when F0 moves. Between two frame centres F0 is a straight line and the phase therefore a parabola;
phases are summed as whole numbers of 2**-24 cycles, so that an hour of speech is as exact as a second. The noise is a
fixed table read at the absolute sample, so that a stream in pieces equals the whole.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from omni_jax.core.arrays import Array, typed
from omni_jax.speech.istft import HOP, SAMPLE_RATE

NOISE_SAMPLES = 1 << 16
HIGHEST_HARMONIC_HZ = 7900.0
TICKS = 1 << 24  # of a cycle: float32 holds each exactly

Controls = Float[Array, "B SS"]


@functools.cache
def noise_table() -> np.ndarray:
  """Returns the fixed noise, float32 [NOISE_SAMPLES]: independent Gaussian samples of variance one."""
  return np.random.Generator(np.random.PCG64(0)).standard_normal(NOISE_SAMPLES).astype(np.float32)


@typed
def noise(first_sample: Int[Array, "B"], num_samples: int) -> Float[Array, "B A"]:
  """Returns `num_samples` of noise from an absolute sample on; the table repeats every four seconds."""
  places = (first_sample[:, None] + jnp.arange(num_samples)[None]) % NOISE_SAMPLES
  return jnp.asarray(noise_table())[places]


def turn(hz: np.ndarray) -> np.ndarray:
  """Returns by how many ticks, int64 [S], the phase moves over each hop between two of the S + 1 neighbouring F0."""
  turns = np.float32(0.5 * HOP / SAMPLE_RATE) * (hz[:-1] + hz[1:])
  return np.round((turns - np.floor(turns)) * np.float32(TICKS)).astype(np.int64)


@typed
def phases(f0_hz: Float[Array, "B T"], start: Float[Array, "B"]) -> Float[Array, "B T"]:
  """Returns cycles at the centres of frames, summed on the device from `start` at the centre of the frame before them.

  Equal to the sum of `turn`; F0 of the frame before is that of the first.
  """
  controls = jnp.pad(f0_hz, ((0, 0), (1, 0)), mode="edge")
  moved = jnp.concatenate([start[:, None], 0.5 * HOP / SAMPLE_RATE * (controls[:, :-1] + controls[:, 1:])], axis=1)
  ticks = jnp.round((moved - jnp.floor(moved)) * TICKS).astype(jnp.int32)
  # Sums past 2**31 wrap, which leaves the lowest 24 bits right.
  return ((jnp.cumsum(ticks, axis=1) & (TICKS - 1)).astype(jnp.float32) / TICKS)[:, 1:]


@typed
def pulses(controls: Controls, phases: Float[Array, "B S"]) -> Float[Array, "B A"]:
  """Returns one hop of pulses between each two neighbouring controls.

  Args:
    controls: F0 in Hz at the S + 1 ends of S segments.
    phases: cycles at the start of each segment, the sum of what `turn` says of those before it.
  """
  start, end = controls[:, :-1], controls[:, 1:]
  steps = jnp.arange(HOP, dtype=jnp.float32)
  slope = (end - start) / HOP
  inside = (start[..., None] * steps + 0.5 * slope[..., None] * steps**2) / SAMPLE_RATE
  hz = start[..., None] + slope[..., None] * steps
  samples = pulse(phases[..., None] + inside, hz)
  return samples.reshape(samples.shape[0], -1)


def pulse(phase: Array, hz: Array) -> Array:
  """Returns sum over k of cos(2 pi k phase) for all harmonics k hz below HIGHEST_HARMONIC_HZ, scaled to unit power."""
  number = HIGHEST_HARMONIC_HZ / hz
  whole = jnp.floor(number)
  offset = phase - jnp.round(phase)
  below = jnp.sin(jnp.pi * offset)
  safe = jnp.abs(below) > 1e-4
  kernel = jnp.sin((2.0 * whole + 1.0) * jnp.pi * offset) / (2.0 * jnp.where(safe, below, 1.0)) - 0.5
  highest = (number - whole) * jnp.cos(2.0 * jnp.pi * (whole + 1.0) * offset)
  return (jnp.where(safe, kernel, whole) + highest) * jnp.sqrt(2.0 / number)
