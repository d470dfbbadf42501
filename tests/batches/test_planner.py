import numpy as np
import pytest

from omni_jax.batches.planner import POOL, Planner, Stock
from omni_jax.batches.shares import phases

LENGTH, PIECES = 64, 40


def stocks(draw, *, views=1):
  """Two sources: short ones without images, of which some have no sample, and longer ones with images."""
  short = draw.integers(2, 20, (30, views))
  short[::7] = 0
  images = draw.integers(8, 41, (50, views))
  return [
    Stock(tokens=both(short), pieces=short * 0, records=usable(short), style_dropout=0.25),
    Stock(tokens=both(images + 3), pieces=images, records=usable(images), style_dropout=0.0),
  ]


def both(tokens):
  return np.stack([tokens, np.where(tokens > 0, tokens + 3, 0)], axis=2).astype(np.int32)


def usable(tokens):
  return np.flatnonzero(tokens.any(axis=1)).astype(np.int32)


def make(seed, *, shares=(3.0, 1.0), changes=((), ()), views=1):
  own = stocks(np.random.default_rng(seed), views=views)
  plan = phases(shares, changes)
  return own, Planner(own, shares=plan, rows=4, length=LENGTH, pieces=PIECES, seed=seed)


def rows_of(planned):
  return np.split(planned.entries, planned.ends[:-1])


@pytest.mark.parametrize("seed", range(5))
def test_rows_hold_whole_samples_in_their_shares(seed):
  own, planner = make(seed)
  planned, _ = planner.plan(planner.begin(), 400)
  for row in rows_of(planned):
    assert len(row) and row["tokens"].sum() <= LENGTH and row["pieces"].sum() <= PIECES
  for entry in planned.entries:
    stock = own[entry["source"]]
    assert entry["tokens"] == stock.tokens[entry["record"], 0, entry["heard"]] > 0
    assert entry["pieces"] == stock.pieces[entry["record"], 0]
  count = len(planned.entries)
  assert abs((planned.entries["source"] == 0).sum() - 0.75 * count) < POOL
  heard = planned.entries["heard"][planned.entries["source"] == 0]
  assert 0.65 < heard.mean() < 0.85 and planned.entries["heard"][planned.entries["source"] == 1].all()


@pytest.mark.parametrize("seed", range(3))
def test_every_record_is_drawn_once_in_an_epoch(seed):
  own, planner = make(seed)
  planned, state = planner.plan(planner.begin(), 600)
  entries = np.concatenate([planned.entries, state.pool])
  assert [int((entries["source"] == source).sum()) for source in (0, 1)] == state.drawn.tolist()
  orders = []
  for source, stock in enumerate(own):
    mine = entries[entries["source"] == source]
    for epoch in range(int(state.drawn[source]) // len(stock.records)):
      drawn = mine["record"][mine["epoch"] == epoch]
      assert sorted(drawn.tolist()) == stock.records.tolist()
      orders.append(tuple(drawn.tolist()))
  assert len(set(orders)) == len(orders), "each epoch has an order of its own"


@pytest.mark.parametrize("pieces", [(7,), (1, 2, 50, 3), (64, 64, 64)])
def test_it_does_not_matter_how_many_rows_are_planned_at_once(pieces):
  _, planner = make(0)
  whole, _ = planner.plan(planner.begin(), sum(pieces))
  state, parts = planner.begin(), []
  for count in pieces:
    planned, state = planner.plan(state, count)
    parts.append(planned.entries)
  np.testing.assert_array_equal(np.concatenate(parts), whole.entries)


def test_another_seed_plans_other_rows():
  plans = [make(0)[1], make(0)[1], None]
  own = stocks(np.random.default_rng(0))
  plans[2] = Planner(own, shares=phases((3.0, 1.0), ((), ())), rows=4, length=LENGTH, pieces=PIECES, seed=1)
  first, same, other = (planner.plan(planner.begin(), 50)[0].entries for planner in plans)
  assert first.tobytes() == same.tobytes() != other.tobytes()


def test_few_places_stay_empty_and_no_sample_waits_long():
  _, planner = make(3)
  planned, _ = planner.plan(planner.begin(), 1000)
  assert planned.entries["tokens"].sum() > 0.97 * 1000 * LENGTH
  late = make(3, shares=(3.0, 0.0), changes=((), ((100, 1.0),)))[1]
  planned, _ = late.plan(late.begin(), 4 * 100 + POOL)
  first = [bool((row["source"] == 1).any()) for row in rows_of(planned)].index(True)
  assert 4 * 100 <= first < 4 * 100 + POOL, "what was drawn before the change is used first"


def test_a_view_is_chosen_among_those_the_record_has():
  own, planner = make(1, views=3)
  planned, _ = planner.plan(planner.begin(), 800)
  for source, stock in enumerate(own):
    mine = planned.entries[planned.entries["source"] == source]
    assert (stock.tokens[mine["record"], mine["view"]].any(axis=1)).all()
    assert np.abs(np.bincount(mine["view"], minlength=3) / len(mine) - 1 / 3).max() < 0.1
