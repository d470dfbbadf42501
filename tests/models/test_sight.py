"""Mini-Omni2's sight: CLIP beside transformers, its place in a prompt beside the original's, and what it changes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.convert.mini_omni import export_mini_omni, import_mini_omni, sight_rules
from omni_jax.convert.table import export_tensors
from omni_jax.convert.tensors import Held
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.models.fixed_vision_encoder import CLIP_B_32
from omni_jax.models.mini_omni import mini_omni
from omni_jax.models.sight import MINI_OMNI_2_SIGHT, SightConfig
from omni_jax.models.sizes import QWEN2_0_5B
from omni_jax.tokens.delays import entries
from omni_jax.tokens.mini_omni import MINI_OMNI, Task
from tests.models import towers
from tests.models.drawn import drawn
from tests.models.test_fixed_vision_encoder import close, images
from tests.models.test_mini_omni import LAYOUT, RUN, batch_of, sounds, tiny

SIGHT = SightConfig(tower=dataclasses.replace(CLIP_B_32, **towers.TINY, depth=2, features_after=2), outputs=10)


def test_vectors_equal_those_of_transformers():
  transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
  ours = drawn(SIGHT)
  config = transformers.CLIPVisionConfig(**towers.sizes(SIGHT.tower), projection_dim=SIGHT.outputs)
  twin = transformers.CLIPVisionModelWithProjection(config).eval()
  tensors = export_tensors(sight_rules(SIGHT), trees.flatten(ours))
  wanted = set(dict(twin.named_parameters()))
  loaded = twin.load_state_dict({name: torch.tensor(np.array(value)) for name, value in tensors.items()}, strict=False)
  assert not loaded.unexpected_keys and not wanted & set(loaded.missing_keys)
  tiles, pixels = images(SIGHT.tower)
  with torch.no_grad():
    states = twin.vision_model(pixels)
    expected = twin.visual_projection(twin.vision_model.post_layernorm(states.last_hidden_state))
    embeds = twin(pixels).image_embeds
  vectors = jax.jit(lambda sight, tiles: sight.features(tiles))(ours, tiles)
  assert vectors.shape == (2, SIGHT.places, 10) == (2, 17, 10)
  close(vectors, expected, tolerance=1e-5)
  close(vectors[:, 0], embeds, tolerance=1e-5)  # the class token's is CLIP's own vector of an image


def test_the_published_size_is_that_of_the_original():
  assert (MINI_OMNI_2_SIGHT.places, MINI_OMNI_2_SIGHT.side, MINI_OMNI_2_SIGHT.outputs) == (50, 224, 512)
  abstract = jax.eval_shape(lambda: MINI_OMNI_2_SIGHT.make(key=jax.random.key(0)))
  assert sum(leaf.size for leaf in jax.tree.leaves(abstract)) == 87_849_216  # CLIPVisionModelWithProjection
  config = mini_omni(QWEN2_0_5B, seeing=MINI_OMNI_2_SIGHT)
  whole = jax.eval_shape(lambda: dataclasses.replace(config).make(key=jax.random.key(0)))
  adapter = sum(leaf.size for leaf in jax.tree.leaves(whole.vision_adapter))
  assert adapter == 2 * 512 * 4864 + 4864 * 896


def test_a_prompt_with_an_image_is_that_of_the_original():
  """Index 52 has `input` in the ids; the vectors of speech lie from there on, and the last slot keeps a pad."""
  mark, text = MINI_OMNI.audio_mark, MINI_OMNI.text_mark
  for task, last in ((Task.A1A2, mark("answer")), (Task.A1T2, mark("pad"))):
    found = entries(MINI_OMNI.prompt(task, num_frames=4, image_places=50), MINI_OMNI.rows)
    image = [mark("image"), *[MINI_OMNI.image_place] * 50, mark("image_end")]
    expected = [*image, *[MINI_OMNI.place] * 4, mark("pad"), mark("end"), last]
    assert (found[:-1] == expected).all() and found.shape == (8, 55 + 4)
    assert found[-1].tolist() == [text("pad")] * (54 + 4) + [text("answer")]
  typed = entries(MINI_OMNI.prompt(Task.T1T2, text=[7], image_places=50), MINI_OMNI.rows)
  assert typed[-1].tolist() == [text("pad")] * 52 + [text("input"), 7, text("end"), text("answer")]
  with pytest.raises(UserError, match="an image beside 8 entries"):
    dataclasses.replace(LAYOUT, codebook_size=20).prompt(Task.T1T2, text=[1], image_places=2)


def test_an_image_changes_the_answer_to_what_is_asked_about_it():
  model = drawn(tiny(seeing=SIGHT))
  tiles, _ = images(SIGHT.tower)
  heard = sounds(0.1)
  prompt = LAYOUT.prompt(Task.A1A2, num_frames=int(heard["recording_frames"][0]), image_places=SIGHT.places)
  first, second = (RUN(model, batch_of(prompt, **heard, tiles=np.asarray(tiles[i : i + 1])))[1] for i in (0, 1))
  assert np.abs(first[0, -1] - second[0, -1]).max() > 1e-3
  np.testing.assert_allclose(first[0, 0], second[0, 0], atol=1e-5)  # before the image
  # The mean of a column: seven times the vector and the text row's pad.
  column = model.embed(batch_of(prompt, **heard, tiles=np.asarray(tiles[:1])))[0, 1 + 3]
  vector = model.vision_adapter(model.seeing.features(tiles[:1]))[0, 3]
  pad = model.decoder.embed.text[...][LAYOUT.text_mark("pad")]
  np.testing.assert_allclose(column, (7 * vector + pad) / 8, atol=1e-5)
  blind = drawn(tiny())
  with pytest.raises(UserError, match="no encoder of images"):
    blind.embed(batch_of(prompt, **heard, tiles=jnp.asarray(tiles[:1])))


def test_its_adapter_is_in_the_file_of_the_model():
  model = drawn(tiny(seeing=SIGHT))
  tensors = export_mini_omni(model)
  assert tensors["vision_adapter.fc_1.weight"].shape == (model.config.adapter.mlp_dim, 10)
  assert not [name for name in tensors if "seeing" in name or "tower" in name]
  leaves = import_mini_omni(model.config, Held(tensors))
  for path, leaf in leaves.items():
    np.testing.assert_array_equal(leaf, trees.flatten(model)[path])
  assert {path.split(".")[0] for path in leaves} == {"decoder", "adapter", "vision_adapter"}
