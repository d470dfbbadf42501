"""The tables of towers of one resolution and of projectors, under every naming scheme."""

import dataclasses

import jax
import numpy as np
import pytest

from omni_jax.convert.emova import ORIGIN, UNIT_ORIGIN, emova_rules, find_layout
from omni_jax.convert.table import export_tensors, import_leaves
from omni_jax.convert.vision import (
  CLIP_NAMES,
  INTERNVIT_NAMES,
  INTERNVL_NAMES,
  UNIT_NAMES,
  fixed_vision_rules,
  projector_rules,
)
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.models.downsampling import (
  C_ABSTRACTOR_8B,
  ConcatenationMixer,
  ConvolutionMixer,
  DownsamplingConfig,
  MeanMixer,
  MiningMixer,
)
from omni_jax.models.emova import EmovaConfig
from omni_jax.models.fixed_vision_encoder import INTERNVIT_6B_448
from omni_jax.models.projectors import IdentityProjectorConfig, ProjectorConfig, ResidualProjectorConfig
from tests.models import towers
from tests.models.drawn import drawn
from tests.models.twins import decoder_config

SMALL = DownsamplingConfig(inputs=18, outputs=16, side=4, out_side=2, mixer=MeanMixer())
EXTRAS = dataclasses.replace(SMALL, input_norm=True, positions=True)
PROJECTORS = {
  "mlp": ProjectorConfig(inputs=18, outputs=16),
  "identity": IdentityProjectorConfig(inputs=18),
  "residual": ResidualProjectorConfig(inputs=18),
  "mean": EXTRAS,
  "concatenation": dataclasses.replace(SMALL, mixer=ConcatenationMixer()),
  "mining": dataclasses.replace(SMALL, mixer=MiningMixer(head_dim=6)),
  "convolution": dataclasses.replace(EXTRAS, mixer=ConvolutionMixer(width=8, depth=3)),
}
TOWERS = {
  "clip": (towers.CLIP, CLIP_NAMES),
  "siglip": (towers.SIGLIP, CLIP_NAMES),
  "internvit-300m": (towers.INTERNVIT_300M, INTERNVIT_NAMES),
  "internvit-6b": (towers.INTERNVIT_6B, INTERNVIT_NAMES),
  "internvl-300m": (towers.INTERNVIT_300M, INTERNVL_NAMES),
  "internvl-6b": (towers.INTERNVIT_6B, INTERNVL_NAMES),
  "unit": (towers.UNIT, UNIT_NAMES),
}


def comes_back(rules, model, dtype):
  """Checks the round trip and returns the tensors."""
  leaves = {path: np.asarray(leaf.astype(dtype)) for path, leaf in trees.flatten(model).items()}
  tensors = export_tensors(rules, leaves)
  found = import_leaves(rules, tensors, shapes={path: leaf.shape for path, leaf in leaves.items()})
  assert set(found) == set(leaves)
  assert all(found[path].tobytes() == leaves[path].tobytes() for path in leaves)
  return tensors


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", TOWERS)
def test_towers_come_back_bit_for_bit(name, dtype):
  config, names = TOWERS[name]
  comes_back(fixed_vision_rules(config, names), drawn(config), dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", PROJECTORS)
def test_projectors_come_back_bit_for_bit(name, dtype):
  comes_back(projector_rules(PROJECTORS[name]), drawn(PROJECTORS[name]), dtype)


def test_internvit_under_its_own_names_is_the_tower_that_transformers_names_otherwise():
  # Parity of the computation is tested under transformers' names; this ties the original ones to it.
  tower = drawn(towers.INTERNVIT_6B)
  original = comes_back(fixed_vision_rules(towers.INTERNVIT_6B, INTERNVIT_NAMES), tower, "float32")
  renamed = comes_back(fixed_vision_rules(towers.INTERNVIT_6B, INTERNVL_NAMES), tower, "float32")
  layer = "encoder.layers.1."
  attention = [f"attn.{end}" for end in ("k_norm.weight", "proj.bias", "proj.weight", "q_norm.weight", "qkv.weight")]
  others = [f"mlp.fc{index}.{part}" for index in (1, 2) for part in ("bias", "weight")]
  found = sorted(name.removeprefix(layer) for name in original if name.startswith(layer))
  assert found == [*attention, "ls1", "ls2", *others, "norm1.weight", "norm2.weight"]
  assert sorted(name for name in original if not name.startswith("encoder")) == [
    "embeddings.class_embedding",
    "embeddings.patch_embedding.bias",
    "embeddings.patch_embedding.weight",
    "embeddings.position_embedding",
  ]
  assert original["embeddings.position_embedding"].shape == (1, 17, 18)
  parts = [renamed[f"encoder.layer.1.attention.{letter}_proj.weight"] for letter in "qkv"]
  np.testing.assert_array_equal(original[f"{layer}attn.qkv.weight"], np.concatenate(parts))


def test_c_abstractor_has_the_names_of_the_release():
  shapes = trees.flatten(jax.eval_shape(lambda: C_ABSTRACTOR_8B.make(key=jax.random.key(0))))
  rules = projector_rules(C_ABSTRACTOR_8B)
  assert {path for rule in rules for path in rule.ours} == set(shapes)
  expected = {f"mlp.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")}
  for block in ("0.b1", "0.b2", "2.b1", "2.b2"):
    norms = ["conv1", "conv2", "conv3"] + (["downsample"] if block == "0.b1" else [])
    ends = [f"{name}.{part}" for name in norms for part in ("conv.weight", "bn.weight", "bn.bias")]
    ends += [f"se.{name}.{part}" for name in ("fc1", "fc2") for part in ("weight", "bias")]
    expected |= {f"downsampler.{block}.{end}" for end in ends}
  assert {rule.theirs for rule in rules} == expected


@pytest.mark.parametrize(
  ("tower", "layout", "name"),
  [
    (towers.CLIP, ORIGIN, "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight"),
    (towers.SIGLIP, ORIGIN, "vision_tower.vision_model.embeddings.patch_embedding.bias"),
    (towers.INTERNVIT_6B, ORIGIN, "vision_tower.encoder.layers.1.attn.q_norm.weight"),
    (towers.UNIT, UNIT_ORIGIN, "vision_tower.unit_model.model.blocks.1.attn.qkv.weight"),
  ],
)
def test_the_origin_format_holds_every_tower(tower, layout, name):
  config = EmovaConfig(decoder=decoder_config(), vision=tower, projector=SMALL, image_token=3, newline=True)
  tensors = comes_back(emova_rules(config, layout), drawn(config), "bfloat16")
  assert f"model.vision_tower.{name}" in tensors and tensors["model.image_newline"].shape == (16,)
  assert "model.mm_projector.mlp.2.weight" in tensors
  # The head's prefix is empty in a file without a head, as this tied one.
  assert find_layout(config, tensors) == layout


def test_a_wrong_tower_is_told_with_every_name():
  rules = fixed_vision_rules(towers.CLIP, CLIP_NAMES)
  leaves = {path: np.asarray(leaf) for path, leaf in trees.flatten(drawn(towers.CLIP)).items()}
  tensors = export_tensors(rules, leaves)
  tensors["head.probe"] = tensors.pop("pre_layrnorm.bias")
  with pytest.raises(UserError) as error:
    import_leaves(rules, tensors, shapes={path: leaf.shape for path, leaf in leaves.items()})
  assert "- head.probe" in str(error.value) and "+ pre_layrnorm.bias" in str(error.value)


def test_the_real_tower_has_one_rule_for_every_leaf():
  shapes = trees.flatten(jax.eval_shape(lambda: INTERNVIT_6B_448.make(key=jax.random.key(0))))
  rules = fixed_vision_rules(INTERNVIT_6B_448, INTERNVIT_NAMES)
  assert sorted(path for rule in rules for path in rule.ours) == sorted(shapes)
