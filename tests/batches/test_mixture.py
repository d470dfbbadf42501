import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from omni_jax.batches.mixture import Cache, Quarantine
from omni_jax.batches.sources import Sample, Source
from omni_jax.core.errors import UserError

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
    return Sample(row, row, row, row, weights, kinds, patches, positions)

  cache = Cache(210 + 432 + 210 + 10)
  for name in ("a", "b", "c"):
    cache.put(name, sample(), image=b"png")
  first, second = cache.get("a"), cache.get("b")
  assert first is not None and second is not None and cache.get("c") is None
  assert first.patches is second.patches
  assert pickle.loads(pickle.dumps(cache)).get("a") is None
