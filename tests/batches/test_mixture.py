import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from omni_jax.batches.mixture import Cache, Quarantine, chosen_records
from omni_jax.batches.sources import Sample, Source
from omni_jax.core.errors import UserError
from omni_jax.prepare.reader import ExampleSource

VOICES = ("engine:one", "engine:two")
SOURCE = Source(folder=Path("set"), split="train", view="text", weight=1.0)


def test_records_are_put_aside_once_until_they_are_too_many(tmp_path):
  path = tmp_path / "quarantine" / "records.jsonl"
  quarantine = Quarantine(SOURCE, size=10, max_share=0.2, path=path)
  for name in ("a", "a", "b", "a"):
    quarantine.add(name, "too long")
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert [line["id"] for line in lines] == ["a", "b"] and lines[0]["reason"] == "too long"
  assert len(pickle.loads(pickle.dumps(quarantine))) == 2
  with pytest.raises(UserError, match="3 of 10 records cannot be used") as caught:
    quarantine.add("c", "no units")
  assert "c: no units" in str(caught.value)


def test_a_cache_keeps_what_fits_and_each_image_once():
  def sample() -> Sample:
    row = np.ones(10, np.int32)
    weights, kinds = row.astype(np.float32), row.astype(np.int8)
    patches, positions = np.ones((4, 100), np.uint8), np.ones((4, 2), np.int32)
    return Sample(row, row, row, row, weights, kinds, {"patches": patches, "patch_positions": positions})

  cache = Cache(210 + 432 + 210 + 10)
  for name in ("a", "b", "c"):
    cache.put(name, sample(), shown=[b"png"])
  first, second = cache.get("a"), cache.get("b")
  assert first is not None and second is not None and cache.get("c") is None
  assert first.images is second.images
  assert pickle.loads(pickle.dumps(cache)).get("a") is None


def test_a_cache_keeps_the_recordings_of_each_sample_apart():
  row, weights, kinds = np.ones(10, np.int32), np.ones(10, np.float32), np.ones(10, np.int8)
  cache = Cache(1 << 20)
  for name, sound in (("a", 1), ("b", 2)):
    sample = Sample(row, row, row, row, weights, kinds, {"recordings": np.full((1, 8), sound, np.int16)})
    cache.put(name, sample, shown=[])
  kept = [cache.get(name) for name in ("a", "b")]
  assert [int(one.images["recordings"][0, 0]) for one in kept if one is not None] == [1, 2]


def test_a_cache_counts_images_that_wait_to_be_decoded():
  late = np.empty(3, object)
  row, weights, kinds = np.ones(10, np.int32), np.ones(10, np.float32), np.ones(10, np.int8)
  sample = Sample(row, row, row, row, weights, kinds, {"tiles": late})
  size = 4 * row.nbytes + weights.nbytes + kinds.nbytes + late.nbytes
  for room, kept in ((size + 500, True), (size + 499, False)):
    cache = Cache(room)
    cache.put("a", sample, shown=[b"x" * 500])
    assert (cache.get("a") is not None) == kept


def test_a_source_takes_the_records_of_its_voices(workdir):
  source = dataclasses.replace(SOURCE, folder=workdir / "units" / "dialogue")
  records = ExampleSource(source.folder, "train")
  chosen = [chosen_records(dataclasses.replace(source, voices=(voice,))) for voice in VOICES]
  assert all(
    records[index].turns[-1].voice == voice for voice, part in zip(VOICES, chosen, strict=True) for index in part
  )
  assert sorted([*chosen[0], *chosen[1]]) == list(chosen_records(source)) and all(chosen)
  with pytest.raises(UserError, match="no record in the voices nobody"):
    chosen_records(dataclasses.replace(source, voices=("nobody",)))
