"""Long recordings in windows: everything is covered once, and an hour takes the memory of one window."""

import numpy as np
import pytest

from omni_jax.speech.long_recordings import Spans, map_units, plan_windows


@pytest.mark.parametrize("samples", [1, 4, 5, 40, 41, 44, 45, 79, 123, 1000])
def test_windows_cover_a_recording_once(samples):
  unit, whole, context = 4, 10, 2
  windows = plan_windows(samples, unit=unit, whole=whole, context=context)
  kept = [np.arange(window.start // unit, 10**6)[window.kept] for window in windows]
  np.testing.assert_array_equal(np.concatenate(kept), np.arange(-(-samples // unit)))
  assert all(window.stop - window.start <= whole * unit for window in windows)
  for place, (window, own) in enumerate(zip(windows, kept, strict=True)):
    assert window.stop <= samples and window.start % unit == 0
    # What is kept has seen its context on both sides, but at the ends of the recording.
    assert place == 0 or own[0] - window.start // unit >= context
    assert place == len(windows) - 1 or window.stop // unit - 1 - own[-1] >= context
    assert len(windows) == 1 or window.stop - window.start > (whole - 1) * unit


def test_spans_are_whole_units():
  spans = Spans.of_seconds(hop=640, sample_rate=16000, whole_seconds=60.0, context_seconds=5.0)
  assert spans == (640, 1500, 125)
  assert Spans.of_seconds(hop=640, sample_rate=16000, whole_seconds=0.01, context_seconds=0.0) == (640, 1, 1)


def test_an_hour_is_read_one_window_at_a_time():
  """Here 100 samples a second, a unit of four of them, which says the number of its first sample."""
  rate, seen = 100, []

  def read(batch, samples):
    seen.append(batch.size)
    return batch[:, ::4], -(-samples // 4)

  waveform = np.arange(3600 * rate, dtype=np.float32)
  spans = Spans(unit=4, whole=60 * rate // 4, context=5 * rate // 4)
  (units,) = map_units(read, [waveform], spans=spans, sample_rate=rate, together_seconds=30.0)
  np.testing.assert_array_equal(units, waveform[::4])
  assert max(seen) <= 64 * rate and len(seen) > 60
