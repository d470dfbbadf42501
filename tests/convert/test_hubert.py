import numpy as np
import pytest

from omni_jax.convert.hubert import (
  FAIRSEQ_TRAINING_NAMES,
  HubertNames,
  export_hubert_tensors,
  fold_taps,
  hubert_rules,
  import_hubert_tensors,
  import_kmeans_tokenizer,
)
from omni_jax.convert.table import import_leaves
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from tests.models.drawn import drawn
from tests.speech import huberts
from tests.speech.test_kmeans_tokenizer import CONFIG

# The names of one layer, of the stem and of the rest in fairseq's checkpoints (fairseq/models/wav2vec/wav2vec2.py).
FAIRSEQ_SOME = {
  "mask_emb", "post_extract_proj.weight", "layer_norm.bias", "encoder.pos_conv.0.weight_g", "encoder.pos_conv.0.bias",
  "encoder.layer_norm.weight", "encoder.layers.1.self_attn.k_proj.bias", "encoder.layers.0.self_attn_layer_norm.weight",
  "encoder.layers.1.fc1.weight", "encoder.layers.1.fc2.bias", "encoder.layers.0.final_layer_norm.bias",
  "feature_extractor.conv_layers.2.0.weight",
}  # fmt: skip


def flat(model):
  return {path: np.asarray(leaf) for path, leaf in trees.flatten(model).items()}


@pytest.mark.parametrize("names", HubertNames)
@pytest.mark.parametrize("name", huberts.CONFIGS)
def test_a_file_comes_back_bit_for_bit(name, names):
  config = huberts.CONFIGS[name]
  leaves = flat(huberts.hubert(config))
  tensors = export_hubert_tensors(config, leaves, names)
  shapes = {path: leaf.shape for path, leaf in leaves.items()}
  found = import_leaves(hubert_rules(config, names), import_hubert_tensors(tensors, names), shapes=shapes)
  assert set(found) == set(leaves)
  assert all(np.asarray(found[path]).tobytes() == leaves[path].tobytes() for path in leaves)


def test_fairseq_names():
  base, large = (
    set(export_hubert_tensors(config, flat(huberts.hubert(config)), HubertNames.FAIRSEQ))
    for config in (huberts.BASE, huberts.LARGE)
  )
  assert base >= FAIRSEQ_SOME | {"feature_extractor.conv_layers.0.2.weight"}
  assert large >= FAIRSEQ_SOME | {"feature_extractor.conv_layers.1.2.1.bias", "feature_extractor.conv_layers.1.0.bias"}


@pytest.mark.parametrize("name", huberts.CONFIGS)
def test_weights_drawn_by_transformers_are_read(name):
  torch = pytest.importorskip("torch")
  ours = huberts.hubert(huberts.CONFIGS[name])
  module = huberts.twin(ours)
  convolution = module.encoder.pos_conv_embed.conv
  with torch.no_grad():
    convolution.parametrizations.weight.original0.mul_(1.7)  # lengths that are not those of the directions
  tensors = import_hubert_tensors(
    {name: tensor.numpy() for name, tensor in module.state_dict().items()}, HubertNames.TRANSFORMERS
  )
  leaves = import_leaves(
    hubert_rules(ours.config, HubertNames.TRANSFORMERS),
    tensors,
    shapes={path: leaf.shape for path, leaf in flat(ours).items()},
  )
  taps, part, groups, _ = ours.positions.weight.shape
  expected = convolution.weight.detach().numpy().reshape(groups, part, part, taps)
  np.testing.assert_allclose(leaves["positions.weight"].transpose(2, 3, 1, 0), expected, rtol=1e-6)


def test_the_training_head_of_a_fairseq_file_is_left_out():
  leaves = flat(huberts.hubert(huberts.BASE))
  tensors = export_hubert_tensors(huberts.BASE, leaves, HubertNames.FAIRSEQ)
  trained = tensors | dict.fromkeys(FAIRSEQ_TRAINING_NAMES, np.zeros((2, 2), np.float32))
  left, right = (set(import_hubert_tensors(one, HubertNames.FAIRSEQ)) for one in (tensors, trained))
  assert left == right


def test_a_file_of_other_names_is_told():
  leaves = flat(huberts.hubert(huberts.BASE))
  tensors = export_hubert_tensors(huberts.BASE, leaves, HubertNames.FAIRSEQ)
  with pytest.raises(UserError, match=r"no encoder\.pos_conv_embed\.conv\.weight_g"):
    import_hubert_tensors(tensors, HubertNames.TRANSFORMERS_BEFORE_5)


def test_a_weight_norm_over_another_axis_is_told():
  with pytest.raises(UserError, match="one length for each"):
    fold_taps(np.ones((4, 1, 1), np.float32), np.ones((4, 2, 3), np.float32))


def test_a_tap_of_zeros_stays_zero():
  direction = np.zeros((2, 2, 3), np.float32)
  assert not fold_taps(np.ones((1, 1, 3), np.float32), direction).any()


def test_a_tokenizer_is_its_hubert_and_its_centres():
  leaves = flat(drawn(CONFIG))
  hubert = {path.removeprefix("hubert."): leaf for path, leaf in leaves.items() if path.startswith("hubert.")}
  tensors = export_hubert_tensors(CONFIG.hubert, hubert, HubertNames.FAIRSEQ)
  found = import_kmeans_tokenizer(CONFIG, tensors, names=HubertNames.FAIRSEQ, centres=leaves["centres"])
  assert set(found) == set(leaves)
  assert all(np.asarray(found[path]).tobytes() == leaves[path].tobytes() for path in leaves)
  with pytest.raises(UserError, match=r"centres of k-means: shape \(29, 18\), ours is \(30, 18\)"):
    import_kmeans_tokenizer(CONFIG, tensors, names=HubertNames.FAIRSEQ, centres=leaves["centres"][1:])
