"""Streaming equals offline, whatever the pieces; sound comes before the end; a finished stream is over."""

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from tests.speech.vocoders import SMALL, make_vocoder, random_units

STYLE = Style("male", "angry", "low")


def _stream(units: np.ndarray, cuts: list[int]) -> list[np.ndarray]:
  stream = make_vocoder().stream(STYLE)
  return [*(stream.push(piece) for piece in np.split(units, cuts)), stream.finish()]


@pytest.mark.parametrize("cuts", [[], [5, 6, 20], list(range(1, 40)), [150, 170]])
def test_pieces_equal_the_whole(cuts):
  units = random_units(200 if cuts and cuts[0] == 150 else 40)
  pieces = _stream(units, cuts)
  whole = make_vocoder().decode(units, STYLE)
  joined = np.concatenate(pieces)
  assert joined.shape == whole.shape
  # F0 is integrated into phase, and with it the rounding of windows of different shape: about 1e-3 after ten seconds.
  np.testing.assert_allclose(joined, whole, atol=(5e-3 if len(units) > 100 else 5e-4) * np.abs(whole).max())


def test_sound_comes_as_soon_as_the_context_is_there():
  units = random_units(40)
  stream = make_vocoder().stream(STYLE)
  heard = [len(stream.push(units[place : place + 1])) for place in range(40)]
  assert not any(heard[: SMALL.units_ahead])
  assert sum(heard) > 0.8 * (sum(heard) + len(stream.finish()))


def test_an_empty_stream_is_silent_and_a_finished_one_is_over():
  stream = make_vocoder().stream(STYLE)
  assert len(stream.push(np.zeros(0, np.int32))) == 0
  assert len(stream.finish()) == 0
  assert len(stream.finish()) == 0
  with pytest.raises(UserError, match="after the end"):
    stream.push(np.zeros(1, np.int32))


def test_a_unit_outside_the_codebook_is_refused():
  with pytest.raises(UserError, match="unit 99"):
    make_vocoder().stream(STYLE).push(np.array([1, 99]))


def test_the_length_is_told_without_making_sound():
  rows = [random_units(number, seed=number) for number in (3, 40, 17)]
  styles = [STYLE, Style("female", "sad", "high"), STYLE]
  told = make_vocoder().seconds(rows, styles)
  for row, style, length in zip(rows, styles, told, strict=True):
    assert length == pytest.approx(len(make_vocoder().decode(row, style)) / 16000, abs=0.02 + 0.05 * length)
  assert make_vocoder().seconds([np.zeros(0, np.int32)], [STYLE]) == [0.0]
