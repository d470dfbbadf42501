"""Alignment search equals the dynamic programme it stands for, and every possible path where these can be counted."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.speech.alignment import align, check_alignable, durations_of, log_likelihoods, path_of, spread

UNITS, FRAMES = 12, 30


def reference(scores: np.ndarray) -> np.ndarray:
  """One row by the recursion as Glow-TTS states it, cell by cell in float32; a tie stays."""
  frames, units = scores.shape
  best = np.full((frames, units), -np.inf, np.float32)
  best[0, 0] = scores[0, 0]
  for t, u in itertools.product(range(1, frames), range(units)):
    best[t, u] = scores[t, u] + max(best[t - 1, u], best[t - 1, u - 1] if u else np.float32(-np.inf))
  path = np.zeros(frames, int)
  path[-1] = units - 1
  for t in range(frames - 1, 0, -1):
    u = path[t]
    path[t - 1] = u - 1 if u and best[t - 1, u - 1] > best[t - 1, u] else u
  return path


def test_a_hundred_random_cases_equal_the_dynamic_programme():
  rng = np.random.default_rng(0)
  scores = rng.normal(size=(100, FRAMES, UNITS)).astype(np.float32) * rng.choice([1e-3, 1.0, 1e3], (100, 1, 1))
  scores[::7] = np.round(scores[::7])  # with ties
  scores = scores.astype(np.float32)
  units = rng.integers(1, UNITS + 1, 100).astype(np.int32)
  frames = np.array([rng.integers(count, FRAMES + 1) for count in units], np.int32)
  units[:2], frames[:2] = (1, UNITS), (FRAMES, UNITS)

  paths = np.asarray(jax.jit(align)(scores, units, frames))
  for row in range(100):
    expected = reference(scores[row, : frames[row], : units[row]])
    np.testing.assert_array_equal(paths[row, : frames[row]], expected, err_msg=str(row))
    assert (paths[row, frames[row] :] == UNITS).all()
  counts = np.asarray(durations_of(jnp.asarray(paths), max_units=UNITS))
  np.testing.assert_array_equal(counts.sum(1), frames)
  for row in range(100):
    assert (counts[row, : units[row]] >= 1).all() and not counts[row, units[row] :].any()


def test_no_other_path_scores_more():
  scores = np.random.default_rng(1).normal(size=(1, 7, 4)).astype(np.float32)
  path = np.asarray(align(jnp.asarray(scores), jnp.array([4]), jnp.array([7])))[0]
  best = max(
    scores[0, np.arange(7), np.repeat(np.arange(4), np.diff([0, *cuts, 7]))].sum()
    for cuts in itertools.combinations(range(1, 7), 3)
  )
  np.testing.assert_allclose(scores[0, np.arange(7), path].sum(), best, rtol=1e-6)


def test_scores_are_log_densities():
  rng = np.random.default_rng(2)
  latents, mean = rng.normal(size=(2, 5, 3)).astype(np.float32), rng.normal(size=(2, 4, 3)).astype(np.float32)
  logs = 0.3 * rng.normal(size=(2, 4, 3)).astype(np.float32)
  apart = (latents[:, :, None] - mean[:, None]) / np.exp(logs[:, None])
  expected = (-0.5 * np.log(2 * np.pi) - logs[:, None] - 0.5 * apart**2).sum(-1)
  np.testing.assert_allclose(log_likelihoods(*map(jnp.asarray, (latents, mean, logs))), expected, atol=1e-4)


def test_what_padding_holds_is_not_read():
  scores = np.random.default_rng(3).normal(size=(1, 9, 6)).astype(np.float32)
  counts = jnp.array([4]), jnp.array([7])
  spoilt = scores.copy()
  spoilt[:, 7:], spoilt[:, :, 4:] = np.nan, np.nan
  find = jax.jit(align)
  np.testing.assert_array_equal(find(spoilt, *counts), find(scores, *counts))


def test_frames_of_durations_and_a_unit_of_none():
  path = path_of(np.array([2, 0, 1]), num_frames=5)
  np.testing.assert_array_equal(path, [0, 0, 2, 3, 3])
  rows = np.arange(1, 4, dtype=np.float32).reshape(1, 3, 1)
  np.testing.assert_array_equal(
    np.asarray(spread(jnp.asarray(rows), jnp.asarray(path)[None]))[0, :, 0], [1, 1, 3, 0, 0]
  )


@pytest.mark.parametrize(("units", "frames"), [(0, 5), (6, 5)])
def test_rows_that_cannot_be_aligned_are_told(units, frames):
  check_alignable(np.array([5]), np.array([5]), where="corpus")
  with pytest.raises(UserError, match=f"row 1 has {units} units and {frames} frames"):
    check_alignable(np.array([1, units]), np.array([5, frames]), where="corpus")
