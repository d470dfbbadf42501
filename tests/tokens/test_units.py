import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.tokens.units import expand_units, parse_units, reduce_units


def test_runs_become_one_unit_each():
  reduced, runs = reduce_units([5, 5, 5, 9, 9, 5])
  assert reduced.tolist() == [5, 9, 5] and runs.tolist() == [3, 2, 1]


def test_expanding_undoes_reducing():
  draw = np.random.default_rng(0)
  for length in range(30):
    raw = draw.integers(0, 3, length).astype(np.int32)
    reduced, runs = reduce_units(raw)
    np.testing.assert_array_equal(expand_units(reduced, runs), raw)
    assert np.all(reduced[1:] != reduced[:-1]) and reduced.dtype == np.int32


@pytest.mark.parametrize(
  "text", ["<|speech_12|><|speech_7|>", "12 7", "<sosp><12><7><eosp>", " <12> 7\n", "<|speech_12|> 7"]
)
def test_units_are_read_in_three_spellings(text):
  assert parse_units(text).tolist() == [12, 7]


@pytest.mark.parametrize("text", ["12,7", "-3", "<|speech_a|>", "1.5", "hello", "12x", "9" * 12, "9" * 5000])
def test_what_is_no_unit_is_told(text):
  with pytest.raises(UserError):
    parse_units(text)


def test_nothing_is_no_units():
  assert parse_units("").tolist() == [] and parse_units("").dtype == np.int32
