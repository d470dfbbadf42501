"""The unit-to-speech model under the names of the releases, there and back."""

import dataclasses

import jax
import numpy as np
import pytest

from omni_jax.convert.table import tensor_shapes
from omni_jax.convert.unit_to_speech import (
  EMOVA_NAMES,
  TRANSFORMERS_NAMES,
  export_unit_to_speech,
  import_unit_to_speech,
  unit_to_speech_rules,
)
from omni_jax.convert.weight_norm import Spelling
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.nn.weight_norm import fold_model
from omni_jax.speech.unit_to_speech import EMOVA_UNIT_TO_SPEECH
from tests.speech.small_vits import LATENT, draw, small_config, small_model

TRAINED = {"voice": True, "normed_decoder": True}


def released_shapes():
  model = jax.eval_shape(lambda: EMOVA_UNIT_TO_SPEECH.make(key=jax.random.key(0)))
  leaves = {path: leaf.shape for path, leaf in trees.flatten(model).items()}
  return tensor_shapes(unit_to_speech_rules(EMOVA_UNIT_TO_SPEECH), shapes=leaves)


def test_the_release_has_876_tensors_of_these_names_and_shapes():
  shapes = released_shapes()
  assert len(shapes) == 876
  # Sizes of the released parts.
  parts = {"enc_p": 7_113_216, "dec": 14_468_608, "enc_q": 8_823_168, "flow": 8_687_232, "dp": 1_366_512}
  parts |= {"emb_g": 344_064, "enc_r": 1_071_424}
  sizes = dict.fromkeys(parts, 0)
  for name, shape in shapes.items():
    sizes[name.split(".")[0]] += int(np.prod(shape))
  assert sizes == parts
  expected = {
    "enc_p.emb.weight": (4274, 192), "enc_p.encoder.attn_layers.5.emb_rel_k": (1, 9, 96),
    "enc_p.encoder.attn_layers.0.conv_o.weight": (192, 192, 1), "enc_p.encoder.norm_layers_2.3.GAMMA": (192,),
    "enc_p.encoder.ffn_layers.5.conv_1.weight": (768, 192, 3), "enc_p.proj.bias": (384,),
    "dec.conv_pre.weight": (512, 192, 7), "dec.cond.weight": (512, 256, 1), "dec.conv_post.weight": (1, 32, 7),
    "dec.ups.0.weight_g": (512, 1, 1), "dec.ups.3.weight_v": (64, 32, 4),
    "dec.resblocks.11.convs2.2.weight_v": (32, 32, 11), "enc_q.pre.weight": (192, 513, 1),
    "enc_q.proj.weight": (384, 192, 1), "enc_q.enc.res_skip_layers.15.weight_v": (192, 192, 1),
    "enc_q.enc.cond_layer.weight_g": (6144, 1, 1), "flow.flows.6.enc.in_layers.3.weight_v": (384, 192, 5),
    "flow.flows.2.post.weight": (96, 192, 1), "dp.flows.0.logs": (2, 1), "dp.flows.7.proj.weight": (29, 192, 1),
    "dp.post_flows.1.convs.convs_sep.2.weight": (192, 1, 3), "dp.post_pre.weight": (192, 1, 1),
    "dp.flows.3.convs.norms_1.0.BETA": (192,), "dp.post_convs.convs_1x1.1.bias": (192,),
    "dp.cond.weight": (192, 256, 1), "emb_g.weight": (1344, 256), "enc_r.spectral.3.fc.weight": (192, 192),
    "enc_r.temporal.1.conv1.conv.weight": (384, 192, 5), "enc_r.slf_attn.fc.bias": (192,),
    "enc_r.fc.fc.weight": (256, 192),
  }  # fmt: skip
  assert expected.items() <= shapes.items()


@pytest.mark.parametrize(("options", "names"), [(TRAINED, EMOVA_NAMES), ({}, TRANSFORMERS_NAMES)])
def test_there_and_back_is_the_same_bits(options, names):
  model = small_model(**options)
  tensors = export_unit_to_speech(model, names=names)
  again, leaves = import_unit_to_speech(model.config, tensors, names=names), trees.flatten(model)
  for path, leaf in trees.flatten(again).items():
    assert np.asarray(leaf).tobytes() == np.asarray(leaves[path]).tobytes(), path
  back = export_unit_to_speech(again, names=names)
  assert {name: tensor.tobytes() for name, tensor in back.items()} == {n: t.tobytes() for n, t in tensors.items()}


def test_every_spelling_of_a_release_is_read():
  model = small_model(**TRAINED)
  tensors = export_unit_to_speech(model)
  newer = dataclasses.replace(EMOVA_NAMES, spelling=Spelling.PARAMETRIZED, norm=("gamma", "beta"))
  respelled = export_unit_to_speech(model, names=newer)
  assert not set(respelled) >= set(tensors) and any("original1" in name for name in respelled)
  found = trees.flatten(import_unit_to_speech(model.config, respelled))
  for path, leaf in trees.flatten(import_unit_to_speech(model.config, tensors)).items():
    np.testing.assert_array_equal(found[path], leaf)


def test_folded_kernels_sound_the_same_and_are_half_as_many():
  model = small_model(**TRAINED)
  inference = jax.eval_shape(lambda: model.config.inference.make(key=jax.random.key(0)))
  folded = jax.jit(lambda model: fold_model(model, into=inference))(model)
  latents, condition = draw((1, 6, LATENT)), draw((1, 5), seed=1)
  sound = jax.jit(lambda model: model.sound(latents, latents[..., 0] * 0 + 1, condition))
  np.testing.assert_allclose(sound(folded), sound(model), atol=1e-5)
  assert len(trees.paths(folded)) < len(trees.paths(model))
  tensors = export_unit_to_speech(folded)
  assert not any(name.endswith("weight_g") for name in tensors)
  np.testing.assert_array_equal(
    trees.flatten(import_unit_to_speech(folded.config, tensors))["flow.layers.1.convolutions.gated.0.bias"],
    trees.flatten(model)["flow.layers.1.convolutions.gated.0.bias"],
  )


def test_a_wrong_file_is_told_with_every_name():
  model = small_model(**TRAINED)
  tensors = export_unit_to_speech(model)
  tensors["stray"] = tensors.pop("dp.flows.0.m")
  tensors["enc_p.proj.bias"] = tensors["enc_p.proj.bias"][:3]
  with pytest.raises(UserError) as caught:
    import_unit_to_speech(small_config(**TRAINED), tensors)
  for line in ("- stray", "+ dp.flows.0.m", "enc_p.proj.bias: shape (3,), ours is (16,)"):
    assert line in caught.value.what
