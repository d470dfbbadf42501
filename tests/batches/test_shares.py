import numpy as np
import pytest

from omni_jax.batches.shares import LONGEST_CYCLE, SourceOrder, Turn, phases, whole_shares
from omni_jax.core.errors import UserError


def walk(order, count, *, step=0, turn=None, most=7):
  turn, taken = turn or Turn(), []
  while len(taken) < count:
    some, turn = order.take(min(most, count - len(taken)), turn=turn, step=step)
    taken += some.tolist()
  return np.array(taken), turn


def test_weights_become_the_smallest_whole_numbers():
  assert whole_shares([0.5, 0.25]) == (2, 1)
  assert whole_shares([4131.5, 900.0, 1276.3, 1276.3]) == (41315, 9000, 12763, 12763)
  assert whole_shares([0.34, 0.33, 0.33]) == (34, 33, 33)
  assert whole_shares([1.0, 0.0]) == (1, 0)
  rounded = whole_shares([1.0, 1e-9, 1 / 3])
  assert sum(rounded) <= LONGEST_CYCLE + 1 and rounded[1] == 1


@pytest.mark.parametrize("seed", range(4))
def test_a_cycle_holds_each_share_and_every_part_of_it_nearly(seed):
  shares = (50, 3, 17, 30)
  taken, turn = walk(SourceOrder(phases(shares, [()] * 4), seed=seed), 300)
  assert turn == Turn(place=300)
  for cycle in taken.reshape(3, 100):
    assert np.bincount(cycle).tolist() == list(shares)
  so_far = np.cumsum(taken[:, None] == np.arange(4), axis=0)
  due = np.arange(1, 301)[:, None] * np.array(shares) / 100
  assert np.abs(so_far - due).max() < 3
  assert (walk(SourceOrder(phases(shares, [()] * 4), seed=seed + 1), 300)[0] != taken).any()


def test_it_does_not_matter_how_many_are_taken_at_once():
  plan = phases((5, 2, 1), [()] * 3)
  all_at_once, _ = walk(SourceOrder(plan, seed=1), 50, most=50)
  np.testing.assert_array_equal(walk(SourceOrder(plan, seed=1), 50, most=1)[0], all_at_once)
  begun, turn = walk(SourceOrder(plan, seed=1), 21)
  rest, _ = walk(SourceOrder(plan, seed=1), 29, turn=turn)
  np.testing.assert_array_equal([*begun, *rest], all_at_once)


def test_shares_change_at_their_step():
  plan = phases((3.0, 1.0, 0.0), [[(20, 0.0)], (), [(10, 1.0)]])
  assert [(phase.step, phase.shares) for phase in plan] == [(0, (3, 1, 0)), (10, (3, 1, 1)), (20, (0, 1, 1))]
  order = SourceOrder(plan, seed=0)
  early, turn = walk(order, 401, step=9)
  assert np.bincount(early, minlength=3).tolist()[2] == 0
  middle, turn = walk(order, 500, step=10, turn=turn)
  assert np.bincount(middle).tolist() == [300, 100, 100]
  late, _ = walk(order, 200, step=25, turn=turn)
  assert np.bincount(late).tolist() == [0, 100, 100]


def test_a_step_without_any_source_is_refused():
  with pytest.raises(UserError, match="from step 5 on"):
    phases((1.0,), [[(5, 0.0)]])
