import dataclasses
import itertools

import numpy as np
import pytest

from omni_jax.batches.pictures import TileSize
from omni_jax.batches.sequences import SequenceBatches
from omni_jax.batches.sources import ImageSize, Source
from omni_jax.core.config import fingerprint, from_json, to_json
from omni_jax.core.errors import UserError
from omni_jax.prepare.tiles import GRIDS_OF_FOUR, TileLayout
from omni_jax.tokens.answers import NativeLayout
from omni_jax.tokens.templates import TINY
from omni_jax.tokens.vocabulary import Vocabulary

IMAGES = ImageSize(patch=4, merge=2, min_pixels=64, max_pixels=1024)


@pytest.fixture
def config(workdir, tmp_path) -> SequenceBatches:
  views = {"speech": "recognise", "caption": "image_text", "spoken_visual_question": "dialogue"}
  sources = [
    Source(folder=workdir / "units" / name, split="train", view=view, weight=1.0, style_dropout=0.3)
    for name, view in views.items()
  ]
  return SequenceBatches(
    text=workdir / "text",
    template=TINY,
    layout=NativeLayout(text_chunk=2, unit_chunk=5),
    sources=tuple(sources),
    rows=2,
    length=128,
    patches=192,
    images=IMAGES,
    quarantine=tmp_path / "quarantine.jsonl",
    seed=1,
  )


def test_a_batch_is_what_the_model_reads(config, workdir):
  vocabulary = Vocabulary.load(workdir / "text" / "vocabulary.json")
  for batch in itertools.islice(config.open(), 6):
    shapes = {name: (value.shape, value.dtype.name) for name, value in batch.items()}
    assert shapes == {
      **dict.fromkeys(("tokens", "targets", "positions", "branch_ids", "segment_ids"), ((2, 128), "int32")),
      "loss_mask": ((2, 128), "float32"),
      "target_kind": ((2, 128), "int8"),
      "patches": ((2, 1, 192, 48), "uint8"),
      "patch_positions": ((2, 1, 192, 2), "int32"),
      "patch_segment_ids": ((2, 1, 192), "int32"),
    }
    places = (batch["tokens"] == vocabulary.control("image")).sum(axis=1)
    np.testing.assert_array_equal(places, (batch["patch_segment_ids"] > 0).sum(axis=(1, 2)) // 4)
    assert np.all(batch["loss_mask"][batch["segment_ids"] == 0] == 0)
    inside = (batch["segment_ids"][:, 1:] == batch["segment_ids"][:, :-1]) & (batch["segment_ids"][:, 1:] > 0)
    np.testing.assert_array_equal(batch["tokens"][:, 1:][inside], batch["targets"][:, :-1][inside])
    assert (batch["segment_ids"] > 0).mean() > 0.6


def test_goes_on_where_it_stopped(config):
  whole = list(itertools.islice(config.open(), 8))
  first = iter(config.open())
  for _ in range(3):
    next(first)
  again = iter(config.open())
  again.set_state(first.get_state())
  for expected in whole[3:]:
    batch = next(again)
    for name, value in expected.items():
      np.testing.assert_array_equal(batch[name], value)


def tiled(config):
  size = TileSize(layout=TileLayout(side=8, cells=2, newline=True), grids=GRIDS_OF_FOUR)
  return dataclasses.replace(config, images=size, patches=12)


def test_tiles_are_counted_by_their_vectors_and_go_on_where_they_stopped(config, workdir):
  image = Vocabulary.load(workdir / "text" / "vocabulary.json").control("image")
  first = iter(tiled(config).open())
  for _ in range(3):
    batch = next(first)
    assert batch["tiles"].shape == (2, 12, 8, 8, 3) and "patches" not in batch
    vectors = [len(set(layout[layout >= 0].tolist())) for layout in _layouts(batch, image)]
    assert all(4 * (ids > 0).sum() >= count for ids, count in zip(batch["tile_segment_ids"], vectors, strict=True))
  assert sum(vectors) > 0
  again = iter(tiled(config).open())
  again.set_state(first.get_state())
  for expected, batch in itertools.islice(zip(first, again, strict=True), 3):
    for name, value in expected.items():
      np.testing.assert_array_equal(batch[name], value)


def _layouts(batch, image):
  counts = (batch["tokens"] == image).sum(axis=1)
  return [layout[:count] for layout, count in zip(batch["tile_layout"], counts, strict=True)]


def test_long_samples_are_cut_where_asked(config):
  short = dataclasses.replace(tiled(config), sources=config.sources[2:], length=56)
  with pytest.raises(UserError, match="records cannot be used"):
    list(itertools.islice(short.open(), 3))
  for batch in itertools.islice(dataclasses.replace(short, truncate=True, max_bad_share=0.9).open(), 3):
    assert (batch["loss_mask"].sum(axis=1) > 0).all()
  assert fingerprint(dataclasses.replace(config, truncate=False)) == fingerprint(config)
  assert "truncate" not in to_json(config)


def test_is_stored_and_rebuilt(config):
  assert from_json(to_json(tiled(config))) == tiled(config)
  assert from_json(to_json(config)) == config
  assert fingerprint(dataclasses.replace(config, seed=2)) != fingerprint(config)


def test_another_vocabulary_is_refused(config):
  with pytest.raises(UserError, match="configured for the vocabulary abc"):
    dataclasses.replace(config, vocabulary_id="abc").open()


def test_rows_too_short_for_the_records_stop_the_run(config):
  with pytest.raises(UserError, match="records cannot be used") as caught:
    list(itertools.islice(dataclasses.replace(config, length=12, patches=0).open(), 3))
  assert "a row has" in str(caught.value) and "12" in str(caught.value)


def test_missing_sets_and_wrong_sizes_are_told(config, tmp_path):
  lost = dataclasses.replace(config.sources[0], folder=tmp_path / "none")
  with pytest.raises(UserError, match="no split 'train'"):
    dataclasses.replace(config, sources=(lost,)).open()
  with pytest.raises(UserError, match="multiple of 4"):
    dataclasses.replace(config, patches=6)
  with pytest.raises(UserError, match="no sources"):
    dataclasses.replace(config, sources=())


def test_a_cache_changes_nothing(config):
  kept = itertools.islice(dataclasses.replace(config, cache_bytes=1 << 24).open(), 12)
  for expected, batch in zip(itertools.islice(config.open(), 12), kept, strict=True):
    for name, value in expected.items():
      np.testing.assert_array_equal(batch[name], value)
