import numpy as np
import pytest

from omni_jax.convert.table import export_tensors, import_leaves
from omni_jax.convert.whisper import MINI_OMNI_ADAPTER_RULES, encoder_tensors, whisper_rules
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.models.gated_adapter import GatedAdapterConfig
from tests.models.drawn import drawn
from tests.speech.test_whisper import TINY


def flat(config):
  return {path: np.asarray(leaf) for path, leaf in trees.flatten(drawn(config)).items()}


@pytest.mark.parametrize("prefix", ["model.encoder.", "encoder.", ""])
def test_an_encoder_comes_back_bit_for_bit_from_a_whole_whisper(prefix):
  leaves = flat(TINY)
  file = {prefix + name: tensor for name, tensor in export_tensors(whisper_rules(), leaves).items()}
  if prefix:
    file["model.decoder.conv1.weight"] = np.zeros((2, 2, 2), np.float32)
  found = import_leaves(
    whisper_rules(), encoder_tensors(file), shapes={path: leaf.shape for path, leaf in leaves.items()}
  )
  assert all(np.asarray(found[path]).tobytes() == leaves[path].tobytes() for path in leaves)


def test_a_file_without_an_encoder_is_told():
  with pytest.raises(UserError, match=r"no conv1\.weight"):
    encoder_tensors({"model.decoder.layer_norm.weight": np.zeros(2, np.float32)})


def test_the_adapter_comes_back_under_mini_omnis_names():
  leaves = flat(GatedAdapterConfig(inputs=6, mlp_dim=10, outputs=4))
  tensors = export_tensors(MINI_OMNI_ADAPTER_RULES, leaves)
  assert {name: tensor.shape for name, tensor in tensors.items()} == {
    "whisper_adapter.fc_1.weight": (10, 6),
    "whisper_adapter.fc_2.weight": (10, 6),
    "whisper_adapter.proj.weight": (4, 10),
  }
  shapes = {path: leaf.shape for path, leaf in leaves.items()}
  found = import_leaves(MINI_OMNI_ADAPTER_RULES, tensors, shapes=shapes)
  assert all(np.asarray(found[path]).tobytes() == leaves[path].tobytes() for path in leaves)
