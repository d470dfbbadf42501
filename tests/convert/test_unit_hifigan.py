import json

import jax
import numpy as np
import pytest

from omni_jax.convert.table import export_tensors, import_leaves, tensor_shapes
from omni_jax.convert.unit_hifigan import read_config, unit_hifigan_rules, write_config
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from tests.speech.drawn import drawn_model

# The published sizes of SpeechGPT's vocoder, as its config.json writes them.
SPEECH_GPT = {
  "resblock": "1",
  "upsample_rates": [5, 4, 4, 2, 2],
  "upsample_kernel_sizes": [11, 8, 8, 4, 4],
  "upsample_initial_channel": 512,
  "resblock_kernel_sizes": [3, 7, 11],
  "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
  "num_embeddings": 1000,
  "embedding_dim": 128,
  "model_in_dim": 128,
  "code_hop_size": 320,
  "sampling_rate": 16000,
  "dur_predictor_params": {
    "encoder_embed_dim": 128,
    "var_pred_hidden_dim": 128,
    "var_pred_kernel_size": 3,
    "var_pred_dropout": 0.5,
  },
}
SMALL = SPEECH_GPT | {
  "upsample_rates": [4, 2],
  "upsample_kernel_sizes": [8, 4],
  "upsample_initial_channel": 16,
  "num_embeddings": 20,
  "embedding_dim": 8,
  "model_in_dim": 16,
  "code_hop_size": 8,
  "multispkr": True,
  "num_speakers": 4,
  "dur_predictor_params": SPEECH_GPT["dur_predictor_params"] | {"encoder_embed_dim": 8, "var_pred_hidden_dim": 12},
}


def test_the_released_sizes_have_their_names_shapes_and_count():
  config = read_config(SPEECH_GPT)
  model = jax.eval_shape(lambda: config.make(key=jax.random.key(0)))
  shapes = {path: tuple(leaf.shape) for path, leaf in trees.flatten(model).items()}
  found = tensor_shapes(unit_hifigan_rules(config), shapes=shapes)
  assert len(found) == 302
  assert sum(int(np.prod(shape)) for shape in found.values()) == 13_485_443
  assert found["dict.weight"] == (1000, 128)
  assert found["dur_predictor.conv2.0.weight"] == (128, 128, 3)
  assert found["dur_predictor.proj.weight"] == (1, 128)
  assert found["ups.0.weight_v"] == (512, 256, 11) and found["ups.0.weight_g"] == (512, 1, 1)
  assert found["resblocks.14.convs2.2.weight_v"] == (16, 16, 11)
  assert found["conv_post.weight_v"] == (1, 16, 7) and found["conv_post.bias"] == (1,)
  assert (config.generator.hop, config.generator.context, config.duration.context) == (320, 21, 2)


@pytest.mark.parametrize("values", [SPEECH_GPT, SMALL], ids=["speech-gpt", "small"])
def test_the_config_comes_back(values):
  config = read_config(values)
  written = json.loads(json.dumps(write_config(config)))
  assert written == values
  assert read_config(written) == config


def test_weights_come_back_bit_for_bit():
  config = read_config(SMALL)
  rules, leaves = unit_hifigan_rules(config), trees.flatten(drawn_model(config))
  tensors = export_tensors(rules, leaves)
  assert tensors["spkr.weight"].shape == (4, 8)
  found = import_leaves(rules, tensors, shapes={path: leaf.shape for path, leaf in leaves.items()})
  assert all(np.array_equal(found[path], leaves[path]) for path in leaves)


@pytest.mark.parametrize(
  ("change", "what"),
  [
    ({"f0": True}, "f0 is True"),
    ({"embedder_params": {"dim": 3}}, "embedder_params"),
    ({"resblock": "2"}, "resblock '2'"),
    ({"model_in_dim": 80}, "model_in_dim 80"),
    ({"dur_predictor_params": SPEECH_GPT["dur_predictor_params"] | {"var_pred_kernel_size": 5}}, "dur_predictor"),
  ],
)
def test_a_config_that_asks_for_more_is_refused(change, what):
  with pytest.raises(UserError, match=what):
    read_config(SPEECH_GPT | change)


def test_missing_fields_are_listed():
  with pytest.raises(UserError, match="no upsample_rates, num_embeddings"):
    read_config({key: value for key, value in SPEECH_GPT.items() if key not in ("upsample_rates", "num_embeddings")})
