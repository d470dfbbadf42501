import numpy as np

from omni_jax.batches import dealing
from omni_jax.batches.dealing import ClipSource, deal


def source() -> ClipSource:
  return ClipSource(5, rows=4, seed=3, cut=lambda which, draw: {"which": np.array(which), "drawn": np.array(draw(100))})


def test_each_epoch_deals_every_utterance_once_in_its_own_order():
  rows = np.concatenate([source()[index]["which"] for index in range(5)]).reshape(4, 5)
  assert (np.sort(rows, axis=1) == np.arange(5)).all() and len({tuple(row) for row in rows.tolist()}) == 4


def test_a_batch_is_a_function_of_its_number():
  told, later = iter(deal(source())), source()
  for index, batch in zip(range(6), told, strict=False):
    for name, row in later[index].items():
      np.testing.assert_array_equal(batch[name], row)
    for name, row in source()[index].items():
      np.testing.assert_array_equal(batch[name], row)


def test_an_order_is_drawn_once_for_an_epoch(monkeypatch):
  made, drawn = [], np.random.default_rng
  monkeypatch.setattr(dealing.np.random, "default_rng", lambda keys: made.append(keys) or drawn(keys))
  clips = source()
  for index in range(5):  # 20 rows of four epochs
    clips[index]
  assert [keys for keys in made if len(keys) == 2] == [(3, epoch) for epoch in range(4)]
