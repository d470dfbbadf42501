"""EMOVA with an image tower of one resolution: tiles in, lines of vectors with newlines at the image places."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core import trees
from omni_jax.core.config import from_json, to_json
from omni_jax.models.downsampling import DownsamplingConfig, MeanMixer
from omni_jax.models.emova import EMOVA_3B, EMOVA_8B_V1, EmovaConfig
from omni_jax.models.projectors import ProjectorConfig
from omni_jax.models.vision_encoder import QWEN2_VL_7B_VISION
from omni_jax.prepare.images import PatchLayout
from omni_jax.prepare.tiles import NEWLINE, TileLayout, cut_tiles, tile_layout
from tests.models.drawn import drawn
from tests.models.towers import INTERNVIT_300M
from tests.models.twins import decoder_config, emova_config

PROJECTOR = DownsamplingConfig(inputs=18, outputs=16, side=4, out_side=2, mixer=MeanMixer())
CONFIG = EmovaConfig(decoder=decoder_config(), vision=INTERNVIT_300M, projector=PROJECTOR, image_token=3, newline=True)
call = jax.jit(lambda model, batch: model(batch))
embed = jax.jit(lambda model, batch: model.embed(batch))
read = jax.jit(lambda model, tiles: model.projector(model.vision(tiles)))


def picture(height, width):
  return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


def row(*sizes):
  """Returns one row of a batch: a token before, between and after images of these sizes."""
  tiles, layouts, tokens, count = [], [], [5], 0
  for height, width in sizes:
    pixels, grid = cut_tiles(picture(height, width), grids=((2, 1), (1, 2)), side=12)
    layout = tile_layout(height, width, grid=grid, cells=2)
    layouts.append(np.where(layout >= 0, layout + 4 * count, layout))
    tiles.append(pixels)
    count += len(pixels)
    tokens += [3] * len(layout) + [6]
  layout, filling = np.concatenate([*layouts, [0]]), np.zeros((1, 12, 12, 3), np.uint8)
  return {
    "tokens": jnp.asarray([tokens]),
    "positions": jnp.arange(len(tokens))[None],
    "segment_ids": jnp.ones((1, len(tokens)), jnp.int32),
    "tiles": jnp.asarray(np.concatenate([*tiles, filling]))[None],
    "tile_segment_ids": jnp.asarray([[1] * count + [0]]),
    "tile_layout": jnp.asarray(layout)[None],
  }


@pytest.fixture(scope="module")
def model():
  return drawn(CONFIG)


def test_image_places_hold_the_vectors_of_the_layout(model):
  batch = row((12, 24), (20, 12))
  found = np.asarray(embed(model, batch))[0]
  vectors = np.asarray(read(model, batch["tiles"][0])).reshape(-1, 16)
  layout = batch["tile_layout"][0].tolist()[:-1]
  expected = [model.newline[0] if number == NEWLINE else vectors[number] for number in layout]
  np.testing.assert_allclose(found[np.asarray(batch["tokens"][0]) == 3], np.stack(expected), atol=1e-5)


def test_an_image_changes_what_follows_and_nothing_before(model):
  batch = row((12, 24))
  same, changed = call(model, batch), call(model, batch | {"tiles": 255 - batch["tiles"]})
  np.testing.assert_array_equal(same[:, :1], changed[:, :1])
  assert not np.allclose(same[:, 2:], changed[:, 2:], atol=1e-3)


def test_text_alone_skips_the_tower(model):
  batch = {name: value[:, :1] for name, value in row((12, 24)).items() if "tile" not in name}
  empty = {"tiles": jnp.zeros((1, 0, 12, 12, 3)), "tile_layout": jnp.zeros((1, 4), jnp.int32)}
  np.testing.assert_array_equal(call(model, batch), call(model, batch | empty))


def test_rows_without_images_beside_others_are_as_alone(model):
  seen, blind = row((12, 24)), row()
  width = seen["tokens"].shape[1]
  rows = {name: jnp.pad(blind[name], ((0, 0), (0, width - 1))) for name in ("tokens", "positions", "segment_ids")}
  rows |= {name: jnp.zeros_like(value) for name, value in seen.items() if "tile" in name}
  both = {name: jnp.concatenate([seen[name], value]) for name, value in rows.items()}
  found = call(model, both)
  np.testing.assert_allclose(found[:1], call(model, seen), atol=1e-5)
  text = {name: value for name, value in blind.items() if "tile" not in name}
  np.testing.assert_allclose(found[1:, :1], call(model, text), atol=1e-5)


def reading(model, batch):
  """Returns the sum of squares of what the tower and the projector make of the images of a batch, not of filling."""
  vectors = model.vision.read(batch, project=model.projector).vectors
  is_real = jnp.repeat(batch["tile_segment_ids"] > 0, 4, axis=1)  # four vectors a tile
  return jnp.where(is_real[..., None], vectors**2, 0).sum()


def with_chunk(chunk):
  return dataclasses.replace(CONFIG, vision=dataclasses.replace(CONFIG.vision, chunk=chunk))


def test_chunks_equal_the_whole(model):
  # Ten tiles, one of which fills up: three to a chunk do not divide them.
  batch, chunked = row((12, 24), (20, 12), (12, 12)), drawn(with_chunk(3))
  (value, found), (expected_value, expected) = (
    jax.jit(jax.value_and_grad(reading))(model, batch) for model in (chunked, model)
  )
  np.testing.assert_allclose(value, expected_value, rtol=1e-6)
  expected = trees.flatten(expected)
  for path, leaf in trees.flatten(found).items():
    np.testing.assert_allclose(leaf, expected[path], atol=1e-4 * max(1, np.abs(expected[path]).max()), err_msg=path)


def test_chunks_bound_the_memory_of_a_gradient():
  batch = {
    "tiles": jax.ShapeDtypeStruct((1, 64, 12, 12, 3), np.uint8),
    "tile_segment_ids": jax.ShapeDtypeStruct((1, 64), np.int32),
    "tile_layout": jax.ShapeDtypeStruct((1, 40), np.int32),
  }

  def bytes_of(chunk):
    model = jax.eval_shape(lambda: with_chunk(chunk).make(key=jax.random.key(0)))
    return jax.jit(jax.grad(reading)).lower(model, batch).compile().memory_analysis().temp_size_in_bytes

  assert bytes_of(8) < bytes_of(0) / 3


def test_filling_is_not_looked_at(model):
  # Bytes cannot be bad, but floats can: what is not looked at cannot spoil anything.
  batch = row((12, 24))
  spoilt = batch | {"tiles": batch["tiles"].astype(jnp.float32).at[:, -1].set(jnp.nan)}
  chunked = drawn(with_chunk(3))
  np.testing.assert_allclose(embed(chunked, spoilt), embed(model, batch), atol=1e-5)


def test_a_config_says_how_it_reads_images():
  assert CONFIG.image_layout == TileLayout(side=12, cells=2, newline=True)
  plain = ProjectorConfig(inputs=18, outputs=16)
  assert dataclasses.replace(CONFIG, projector=plain, newline=False).image_layout.cells == 4
  assert emova_config().image_layout == PatchLayout(patch=2, merge=2)
  assert EMOVA_3B.image_layout == PatchLayout(patch=QWEN2_VL_7B_VISION.patch, merge=QWEN2_VL_7B_VISION.merge)
  assert EMOVA_8B_V1.image_layout == TileLayout(side=448, cells=16, newline=True)


def test_a_newline_leaves_the_start_of_the_other_parts_as_it_is():
  # The projector stands for all parts: compiling every initialiser takes half a minute.
  make = jax.jit(lambda key: [dataclasses.replace(CONFIG, newline=on).make(key=key).projector for on in (True, False)])
  ended, plain = make(jax.random.key(0))
  jax.tree.map(np.testing.assert_array_equal, ended, plain)
  shapes = [dataclasses.replace(CONFIG, newline=on).make for on in (True, False)]
  ended, plain = (trees.flatten(jax.eval_shape(lambda make=make: make(key=jax.random.key(0)))) for make in shapes)
  assert set(ended) - set(plain) == {"newline"} and ended["newline"].shape == (1, 16)


def test_config_is_stored_and_older_ones_still_load():
  assert from_json(to_json(CONFIG)) == CONFIG
  stored = to_json(emova_config())
  assert "newline" not in stored and from_json(stored) == emova_config()


def test_parts_that_do_not_join_are_refused():
  with pytest.raises(AssertionError, match="4 vectors a side"):
    dataclasses.replace(CONFIG, projector=dataclasses.replace(PROJECTOR, side=6, out_side=2))
  with pytest.raises(AssertionError, match="one resolution"):
    dataclasses.replace(emova_config(), newline=True)
  with pytest.raises(AssertionError, match="does not join"):
    dataclasses.replace(CONFIG, projector=ProjectorConfig(inputs=5, outputs=16))
