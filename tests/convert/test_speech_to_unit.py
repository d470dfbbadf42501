import jax
import numpy as np
import pytest

from omni_jax.convert.speech_to_unit import (
  HUGGING_FACE_PREFIX,
  Spelling,
  export_speech_to_unit,
  find_spelling,
  import_speech_to_unit,
  speech_to_unit_rules,
)
from omni_jax.convert.table import tensor_shapes
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.speech.speech_to_unit import EMOVA_SPEECH_TO_UNIT
from tests.speech.spirals import TINY, drawn

SPELLINGS = [
  Spelling(),
  Spelling(prefix=HUGGING_FACE_PREFIX),
  Spelling(parametrized=True),
  Spelling(prefix=HUGGING_FACE_PREFIX, parametrized=True),
]


@pytest.fixture(scope="module")
def leaves():
  return {path: np.asarray(leaf) for path, leaf in trees.flatten(drawn()).items()}


def _shapes(leaves):
  return {path: leaf.shape for path, leaf in leaves.items()}


@pytest.mark.parametrize("spelling", SPELLINGS, ids=str)
def test_both_ways_bit_for_bit_in_every_spelling(leaves, spelling):
  mask = np.random.default_rng(3).normal(size=128).astype(np.float32)
  tensors = export_speech_to_unit(TINY, leaves, beside={"encoder.mask_emb": mask}, spelling=spelling)
  assert find_spelling(tensors) == spelling
  others = {"decoder.dec.conv_pre.bias": np.ones(3), "style_embedding.weight": np.ones((2, 2))}
  given = tensors | (others if spelling.prefix else {})
  found, beside = import_speech_to_unit(TINY, given, shapes=_shapes(leaves))
  assert found.keys() == leaves.keys()
  assert all(np.asarray(found[path]).tobytes() == leaves[path].tobytes() for path in leaves)
  back = export_speech_to_unit(TINY, found, beside=beside, spelling=spelling)
  assert back.keys() == tensors.keys() and all(back[name].tobytes() == tensors[name].tobytes() for name in tensors)


def test_the_released_file_has_239_entries_of_their_shapes():
  shapes = {
    path: leaf.shape
    for path, leaf in trees.flatten(jax.eval_shape(lambda: EMOVA_SPEECH_TO_UNIT.make(key=jax.random.key(0)))).items()
  }
  found = tensor_shapes(speech_to_unit_rules(EMOVA_SPEECH_TO_UNIT), shapes=shapes)
  assert len(found) == 239 - 5
  blocks = "encoder.feature_encoder.block_modules."
  assert found[f"{blocks}0.conv.conv.weight"] == (384, 128, 5) and found[f"{blocks}5.conv.conv.weight"] == (
    768,
    1536,
    1,
  )
  assert found[f"{blocks}6.pos_conv.0.weight_v"] == (768, 48, 128)
  assert found[f"{blocks}6.pos_conv.0.weight_g"] == (1, 1, 128)
  assert found[f"{blocks}3.layers.1.fc1.weight"] == (2048, 512)
  assert found["decoder.decoder_layers.0.weight"] == (241, 512, 1) and found["pre_quant.weight"] == (4, 768)


def test_what_is_missing_left_over_or_of_another_shape_is_told(leaves):
  tensors = export_speech_to_unit(TINY, leaves)
  del tensors["pre_quant.bias"]
  tensors["decoder.conv_layers.0.conv.conv.bias"] = np.zeros(3, np.float32)
  tensors["encoder.new"] = np.zeros(3, np.float32)
  with pytest.raises(UserError) as error:
    import_speech_to_unit(TINY, tensors, shapes=_shapes(leaves))
  assert all(word in error.value.what for word in ("pre_quant.bias", "conv_layers.0", "encoder.new"))


@pytest.mark.parametrize(
  ("name", "change"),
  [
    ("encoder.wav2spec.featurizer.window", lambda x: x + 1e-4),
    ("encoder.wav2spec.featurizer.fb", lambda x: x[:, :, :-1]),
    ("quantizer._levels_np", lambda x: x - 1),
    ("encoder.mask_emb", lambda x: x * np.nan),
  ],
)
def test_constants_that_are_not_ours_are_refused(leaves, name, change):
  tensors = export_speech_to_unit(TINY, leaves)
  tensors[name] = change(tensors[name])
  with pytest.raises(UserError, match=name):
    import_speech_to_unit(TINY, tensors, shapes=_shapes(leaves))


def test_a_file_without_constants_is_read(leaves):
  tensors = {name: x for name, x in export_speech_to_unit(TINY, leaves).items() if "featurizer" not in name}
  found, beside = import_speech_to_unit(TINY, tensors, shapes=_shapes(leaves))
  assert len(beside) == 3 and len(found) == len(leaves)
