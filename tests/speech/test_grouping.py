import numpy as np
import pytest

from omni_jax.speech.grouping import map_waveforms, padded_length


@pytest.mark.parametrize(("samples", "seconds"), [(1, 1), (10, 1), (11, 1.5), (16, 2), (21, 3), (41, 6), (61, 8)])
def test_ladder_of_lengths(samples, seconds):
  assert padded_length(samples, sample_rate=10) == seconds * 10


def test_results_come_in_the_order_given_whatever_the_lengths():
  generator = np.random.default_rng(0)
  waveforms = [generator.normal(size=generator.integers(1, 90)) for _ in range(40)]
  shapes = set()

  def total(waveform, samples):
    shapes.add(waveform.shape)
    return waveform.sum(-1), samples

  rows = map_waveforms(total, waveforms, sample_rate=10)
  np.testing.assert_allclose([row[0] for row in rows], [waveform.sum() for waveform in waveforms], atol=1e-4)
  assert [int(row[1]) for row in rows] == [len(waveform) for waveform in waveforms]
  assert len(shapes) <= 8 and {shape[0] for shape in shapes} == {16}


def test_nothing_gives_nothing():
  assert map_waveforms(lambda *_: (), [], sample_rate=10) == []


def test_long_recordings_are_run_alone():
  shapes = []

  def total(waveform, samples):
    shapes.append(waveform.shape)
    return waveform.sum(-1), samples

  waveforms = [np.ones(size) for size in (31, 8, 29, 9, 45, 30)]
  rows = map_waveforms(total, waveforms, sample_rate=10, together_seconds=3.0)
  assert [float(row[0]) for row in rows] == [31, 8, 29, 9, 45, 30]
  assert sorted(shapes) == [(1, 40), (1, 60), (16, 10), (16, 30)]
