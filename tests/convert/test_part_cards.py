import dataclasses

import pytest

from omni_jax.convert.emova import ORIGIN, UNIT_ORIGIN, origin_layout
from omni_jax.convert.emova_card import config_of, origin_card
from omni_jax.convert.part_cards import projector_card, projector_from, tower_card, tower_from
from omni_jax.core.errors import UserError
from omni_jax.models.downsampling import (
  C_ABSTRACTOR_8B,
  SELF_MINING_8B,
  ConcatenationMixer,
  ConvolutionMixer,
  DownsamplingConfig,
  MeanMixer,
  MiningMixer,
)
from omni_jax.models.emova import EMOVA_3B, EMOVA_7B, EmovaConfig
from omni_jax.models.fixed_vision_encoder import (
  CLIP_L_336,
  INTERNVIT_6B_448,
  INTERNVIT_300M_448,
  SIGLIP_SO400M_384,
  UNIT_1B_448,
)
from omni_jax.models.projectors import IdentityProjectorConfig, ProjectorConfig, ResidualProjectorConfig
from omni_jax.models.sizes import LLAMA_3_1_8B
from tests.models import towers
from tests.models.twins import vision_config

PIXELS = (3136, 3_211_264)
SIGLIP_26 = dataclasses.replace(SIGLIP_SO400M_384, depth=26)
# The dicts of EMOVA's configs/_base_/models, without what says how to train.
RELEASED_TOWERS = {
  "llama3_1_clip": (CLIP_L_336, ("CLIPVisionTower", "openai/clip-vit-large-patch14-336", -2)),
  "llama3_1_internvit300m_selfMining_anyres": (
    INTERNVIT_300M_448,
    ("InternVisionTower", "OpenGVLab/InternViT-300M-448px", -1),
  ),
  "llama3_1_internvit_anyres": (INTERNVIT_6B_448, ("InternVisionTower", "OpenGVLab/InternViT-6B-448px-V1-5", -1)),
  "llama3_1_siglip_anyres": (SIGLIP_26, ("SigLipVisionTower", "google/siglip-so400m-patch14-384", None)),
  "llama3_1_unit1B_anyres": (UNIT_1B_448, ("UNITVisionTower", "yeeaa/UNIT_1B", None)),
}
CELLS = {"downsample_rate": 4, "downsample_size": (16, 16), "num_input_token": 1024}


@pytest.mark.parametrize(("config", "named"), RELEASED_TOWERS.values(), ids=RELEASED_TOWERS)
def test_towers_have_the_names_of_the_release(config, named):
  kind, model, layer = named
  card = {"type": kind, "pretrained_model_name_or_path": model}
  if layer is not None:
    card |= {"mm_vision_select_layer": layer, "mm_vision_select_feature": "patch"}
  assert tower_card(config, pixels=PIXELS) == card
  assert tower_from({**card, "trainable": True}) == config
  assert tower_from({**card, "pretrained_model_name_or_path": f"/models/{model}/"}) == config


def test_a_tower_without_a_published_name_is_stated_in_our_config():
  for config in (towers.CLIP, SIGLIP_SO400M_384):  # EMOVA deletes SigLIP's last layer
    card = tower_card(config, pixels=PIXELS)
    assert card["stated_in"] == "omni_jax.json"
    with pytest.raises(UserError, match="image tower 'FixedVisionConfig'"):
      tower_from(card)
  earlier = dataclasses.replace(CLIP_L_336, features_after=20)
  assert tower_from(tower_card(earlier, pixels=PIXELS)) == earlier


def test_the_name_that_the_release_gives_unit_is_read():
  card = {"type": "RADIODistillMultiVisionTower_1B", "pretrained_model_name_or_path": "yeeaa/UNIT_1B"}
  assert tower_from(card) == UNIT_1B_448


@pytest.mark.parametrize(("width", "mlp_dim"), [(16, 24), (16, 64), (1152, 4304), (24, 71)])
def test_the_native_tower_says_its_inner_width_as_their_class_cuts_it(width, mlp_dim):
  config = vision_config(width=width, mlp_dim=mlp_dim)
  card = tower_card(config, pixels=PIXELS)
  assert int(card["embed_dim"] * card["mlp_ratio"]) == mlp_dim and tower_from(card) == config
  with pytest.raises(UserError, match=r"norm_eps 1e-05.*norm_eps is 1e-06|norm_eps 1e-05"):
    tower_card(vision_config(norm_eps=1e-5), pixels=PIXELS)


PROJECTORS = {
  "mlp": (ProjectorConfig(inputs=1024, outputs=4096), {"type": "MLPProjector", "mlp_depth": 2}),
  "identity": (IdentityProjectorConfig(inputs=4096), {"type": "IdentityMap"}),
  "residual": (ResidualProjectorConfig(inputs=4096), {"type": "SimpleResBlock", "channels": 4096}),
  "llama3_1_internvit_anyres": (
    C_ABSTRACTOR_8B,
    {"type": "CAbstractorMMProjector", "conv_block_depth": 2, **CELLS, "add_pos_embed": False},
  ),
  "llama3_1_siglip_anyres": (
    DownsamplingConfig(inputs=1152, outputs=4096, side=27, out_side=16, mixer=ConvolutionMixer(width=1024, depth=2)),
    {
      "type": "CAbstractorMMProjector",
      "conv_block_depth": 2,
      "downsample_rate": 2.84,
      "downsample_size": (16, 16),
      "num_input_token": 729,
    },
  ),
  "llama3_1_unit1B_anyres": (
    DownsamplingConfig(
      inputs=1280, outputs=4096, side=32, out_side=16, mixer=ConvolutionMixer(width=1024, depth=2), input_norm=True
    ),
    {"type": "CAbstractorMMProjector", "add_pre_norm": True, "conv_block_depth": 2, **CELLS},
  ),
  "llama3_1_internvit300m_selfMining_anyres": (
    SELF_MINING_8B,
    {"type": "SelfMiningMMProjector", "conv_block_depth": 2, **CELLS},
  ),
  "defaults": (
    DownsamplingConfig(inputs=1024, outputs=4096, side=24, out_side=12, mixer=ConvolutionMixer(width=1024, depth=3)),
    {"type": "CAbstractorMMProjector", "downsample_size": 12},
  ),
  "mean": (
    DownsamplingConfig(inputs=1024, outputs=4096, side=32, out_side=16, mixer=MeanMixer(), positions=True),
    {"type": "AvgPoolMMProjector", **CELLS, "add_pos_embed": True},
  ),
  "concatenation": (
    DownsamplingConfig(inputs=1024, outputs=4096, side=32, out_side=16, mixer=ConcatenationMixer()),
    {"type": "ConcatChannelMMProjector", **CELLS},
  ),
}


@pytest.mark.parametrize(("config", "card"), PROJECTORS.values(), ids=PROJECTORS)
def test_projectors_have_the_names_of_the_release(config, card):
  widths = {"inputs": config.inputs, "outputs": config.outputs}
  assert projector_from(card, **widths) == config
  ours = projector_card(config)
  assert ours["type"] == card["type"] and projector_from(ours, **widths) == config
  if "num_input_token" in ours:  # the check of EMOVA's class
    assert ours["num_input_token"] // ours["downsample_rate"] == ours["downsample_size"][0] ** 2


@pytest.mark.parametrize(
  "card",
  [
    {"type": "CAbstractor"},
    {"type": "MLPProjector", "mlp_depth": 3},
    {"type": "AvgPoolMMProjector", "downsample_size": (16, 8), "num_input_token": 1024},
    {"type": "AvgPoolMMProjector", "downsample_size": 16, "num_input_token": 1000},
    {"type": "AvgPoolMMProjector"},
    projector_card(dataclasses.replace(SELF_MINING_8B, mixer=MiningMixer(head_dim=32))),
  ],
)
def test_projectors_that_are_not_stated_are_refused(card):
  with pytest.raises(UserError, match=r"projector|downsample_size"):
    projector_from(card, inputs=1024, outputs=4096)


@pytest.mark.parametrize("newline", [True, False])
def test_a_whole_card_is_read_back_without_our_own(newline):
  decoder = dataclasses.replace(LLAMA_3_1_8B, extra_vocab_size=4096)
  parts = {"vision": INTERNVIT_6B_448, "projector": C_ABSTRACTOR_8B, "newline": newline}
  config = EmovaConfig(decoder=decoder, image_token=7, **parts)
  card = origin_card(config, dtype="bfloat16")
  assert config_of(card, text_rows=128_256) == config
  assert (card["image_aspect_ratio"], card["mm_patch_merge_type"]) == (
    ("anyres", "spatial_unpad") if newline else ("pad", "flat")
  )
  if newline:
    assert card["image_grid_pinpoints"][:2] == [[1344, 448], [2240, 448]] and len(card["image_grid_pinpoints"]) == 22
  for released in (EMOVA_3B, EMOVA_7B):
    assert config_of(origin_card(released, dtype="bfloat16"), text_rows=151_665) == released


def test_unit_has_one_level_less_in_its_names():
  whole = EmovaConfig(
    decoder=dataclasses.replace(LLAMA_3_1_8B, extra_vocab_size=4096),
    vision=UNIT_1B_448,
    projector=ProjectorConfig(inputs=1280, outputs=4096),
    image_token=7,
  )
  assert origin_layout(whole) == UNIT_ORIGIN and origin_layout(EMOVA_3B) == ORIGIN
