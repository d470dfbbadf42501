import numpy as np
import pytest

from omni_jax.batches.draws import drawn, shuffled, uniform


def test_numbers_are_the_same_for_ever():
  # Written down once; SplitMix64 from 0 begins with the first of them.
  assert int(drawn(0)) == 0xE220A8397B1DCDAF
  assert int(drawn(1, 2, 3)) == 7702586659592502839


def test_each_key_has_its_own_number_wherever_it_stands():
  places = np.arange(1000)
  several = uniform(7, places, 2)
  assert len(set(several.tolist())) == 1000 and several.min() >= 0 and several.max() < 1
  assert uniform(7, 31, 2) == several[31]
  assert abs(several.mean() - 0.5) < 0.03
  assert drawn(1, 2) != drawn(2, 1)


@pytest.mark.parametrize("size", [1, 2, 3, 20, 257, 4096])
def test_a_shuffle_is_an_order_of_all(size):
  order = shuffled(np.arange(size), size=size, key=5)
  assert sorted(order.tolist()) == list(range(size))
  np.testing.assert_array_equal(shuffled(np.arange(size)[::3], size=size, key=5), order[::3])
  if size > 20:
    assert (order == np.arange(size)).sum() < 10
    assert (shuffled(np.arange(size), size=size, key=6) != order).mean() > 0.9


def test_every_thing_is_as_often_at_every_place():
  counts = np.zeros((5, 5))
  for key in range(500):
    counts[np.arange(5), shuffled(np.arange(5), size=5, key=key)] += 1
  assert np.abs(counts - 100).max() < 5 * np.sqrt(100)
