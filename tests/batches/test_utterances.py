import dataclasses
import json

import numpy as np
import pytest

from omni_jax.batches.utterances import Bucket, UtteranceBatches, Utterances, load_phones
from omni_jax.core.errors import UserError
from omni_jax.prepare.audio import encode_flac
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.writer import write_split

PHONES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
  folder = tmp_path_factory.mktemp("corpus")
  generator = np.random.default_rng(0)
  examples = []
  for index in range(11):
    # The number of samples names the utterance, and its phones and style follow from it.
    waveform = 0.1 * generator.normal(size=1600 * (1 + index % 5) + index).clip(-3, 3)
    phones = " ".join(PHONES[place % 3] for place in range(1 + index))
    style = "male-sad-low" if index % 2 else ""
    turn = Turn("user", f"number {index}", audio=encode_flac(waveform), phones=phones, style=style)
    examples.append(Example(id=str(index), task="speech", turns=(turn,)))
  write_split(folder / "speech", "train", examples)
  (folder / "phones.json").write_text(json.dumps(PHONES))
  return UtteranceBatches(
    sets=(folder / "speech",), split="train", phones=folder / "phones.json", num_phones=4, max_phones=12,
    buckets=(Bucket(seconds=0.25, rows=4), Bucket(seconds=0.6, rows=2)), seed=0,
  )  # fmt: skip


def _take(config, count):
  iterator = iter(config.open())
  return [next(iterator) for _ in range(count)]


def test_rows_belong_together(config):
  for batch in _take(config, 6):
    rows, length = batch["waveform"].shape
    assert (rows, length) in {(4, 4000), (2, 9600)}
    for row in range(rows):
      samples = batch["samples"][row]
      index = samples % 1600
      assert 0 < np.abs(batch["waveform"][row, :samples]).max() < 1 and not batch["waveform"][row, samples:].any()
      assert batch["num_phones"][row] == index + 1
      assert batch["phones"][row, : index + 1].tolist() == [place % 3 for place in range(index + 1)]
      assert batch["style"][row].tolist() == ([1, 2, 0] if index % 2 else [-1, -1, -1])


def test_an_epoch_repeats_nothing_and_two_epochs_differ(config):
  per_epoch = 4 // 4 + 6 // 2  # five utterances of up to a quarter second, one of them left over; six longer ones
  batches = _take(config, 2 * per_epoch)
  epochs = [np.concatenate([batch["samples"] for batch in part]).tolist() for part in (batches[:4], batches[4:])]
  assert all(len(set(epoch)) == len(epoch) == 10 for epoch in epochs)
  assert epochs[0] != epochs[1]


def test_the_same_seed_gives_the_same_batches_and_another_others(config):
  first, again, other = (
    np.concatenate([batch["samples"] for batch in _take(chosen, 8)])
    for chosen in (config, config, dataclasses.replace(config, seed=1))
  )
  assert (first == again).all() and not np.array_equal(first, other)


def test_goes_on_from_a_stored_position(config):
  iterator = iter(config.open())
  next(iterator), next(iterator)
  state = iterator.get_state()
  expected = [next(iterator) for _ in range(5)]
  fresh = iter(config.open())
  fresh.set_state(state)
  for batch in expected:
    for name, value in next(fresh).items():
      np.testing.assert_array_equal(value, batch[name])


def test_a_small_bucket_still_gives_a_whole_batch(config):
  wide = dataclasses.replace(config, buckets=(Bucket(seconds=0.6, rows=16),))
  assert _take(wide, 1)[0]["waveform"].shape == (16, 9600)


def test_sound_is_kept_exactly(config):
  utterances = Utterances(config.sets, "train")
  np.testing.assert_array_equal(utterances[3], utterances[3])
  assert [len(utterances[index]) for index in range(len(utterances))] == utterances.samples.tolist()


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"buckets": (Bucket(seconds=0.3, rows=2),)}, "longest bucket"),
    ({"max_phones": 4}, "at most 4 phones"),
    ({"num_phones": 2}, "1 to 2 different symbols"),
    ({"split": "none"}, "no split"),
  ],
)
def test_what_does_not_fit_is_told(config, change, message):
  with pytest.raises(UserError, match=message):
    dataclasses.replace(config, **change).open()


def test_a_phone_outside_the_list_is_told(config, tmp_path):
  path = tmp_path / "phones.json"
  path.write_text(json.dumps(["a", "b"]))
  with pytest.raises(UserError, match="unknown phones c"):
    dataclasses.replace(config, phones=path).open()


@pytest.mark.parametrize("text", [None, "not json", '["a", "a"]', "[]"])
def test_a_damaged_list_of_phones_is_told(tmp_path, text):
  path = tmp_path / "phones.json"
  if text is not None:
    path.write_text(text)
  with pytest.raises(UserError, match=r"phones\.json"):
    load_phones(path, limit=9)


def test_a_set_without_sound_is_told(tmp_path, config):
  write_split(tmp_path / "text", "train", [Example(id="1", task="text", turns=(Turn("user", "hello"),))])
  with pytest.raises(UserError, match="no sound"):
    dataclasses.replace(config, sets=(tmp_path / "text",)).open()


def test_sound_at_another_rate_is_told(tmp_path):
  turn = Turn("user", "a", audio=encode_flac(np.zeros(4000, np.float32), 22050))
  write_split(tmp_path / "fast", "train", [Example("a", "speech", (turn,))])
  with pytest.raises(UserError, match="sound at 22050 Hz") as error:
    Utterances((tmp_path / "fast",), "train")
  assert "record 0" in error.value.where


def test_the_last_row_can_be_held_out(config):
  turns = [
    Turn("user", f"other {index}", audio=encode_flac(np.full(1000 + 4000 * index, 0.25)), phones="c " * index + "c")
    for index in range(2)
  ]
  examples = [Example(id=str(index), task="speech", turns=(turn,)) for index, turn in enumerate(turns)]
  write_split(config.sets[0], "test", examples)
  held = dataclasses.replace(config, held_out="test")
  batches = _take(held, 12)
  for batch in batches:
    rows, length = batch["waveform"].shape
    assert batch["learned"].tolist() == [True] * (rows - 1) + [False]
    samples = int(batch["samples"][-1])
    assert samples in (1000, 5000) and samples <= length
    assert batch["num_phones"][-1] == (1 if samples == 1000 else 2) and (batch["phones"][-1][:1] == 2).all()
    np.testing.assert_allclose(batch["waveform"][-1, :samples], 0.25, atol=1e-4)
    assert not batch["waveform"][-1, samples:].any()
    assert not set(batch["samples"][:-1].tolist()) & {1000, 5000}
  assert {int(batch["samples"][-1]) for batch in batches} == {1000, 5000}
  for batch, again in zip(batches, _take(held, 12), strict=True):
    np.testing.assert_array_equal(batch["waveform"], again["waveform"])
  first = _take(held, 1 * (5 // 3 + 6))[: 5 // 3 + 6]
  learned = np.concatenate([batch["samples"][:-1] for batch in first]).tolist()
  assert len(set(learned)) == len(learned) == 3 + 6  # an epoch of rows that are learned, the rest left over
  with pytest.raises(UserError, match="at least one is learned"):
    dataclasses.replace(held, buckets=(Bucket(seconds=0.6, rows=1),))
  with pytest.raises(UserError, match="shortest recording"):
    dataclasses.replace(held, buckets=(Bucket(seconds=0.05, rows=2), Bucket(seconds=0.6, rows=2))).open()
