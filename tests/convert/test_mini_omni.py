import dataclasses

import jax
import numpy as np
import pytest

from omni_jax.convert.mini_omni import (
  HEAD,
  TABLE,
  WEIGHTS,
  export_mini_omni,
  mini_omni_rules,
  read_config,
  read_mini_omni,
  write_config,
  write_mini_omni,
)
from omni_jax.convert.table import tensor_shapes
from omni_jax.convert.torch_files import in_numpy, in_torch, read_torch, write_torch
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.models.mini_omni import MINI_OMNI_0_5B
from tests.models.drawn import drawn
from tests.models.test_mini_omni import LAYOUT, tiny

pytest.importorskip("torch")


def deaf(*, tied=True, **changes):
  config = dataclasses.replace(tiny(**changes), hearing=None)
  return dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, tied=tied))


@pytest.mark.parametrize(("tied", "speaker", "tensors"), [(True, 0, 22), (False, 2, 40)])
def test_a_model_comes_back_bit_for_bit(tmp_path, tied, speaker, tensors):
  model = drawn(deaf(tied=tied, speaker=speaker))
  write_mini_omni(model, tmp_path)
  found = read_mini_omni(tmp_path)
  assert found.config == model.config
  ours, theirs = trees.flatten(model), trees.flatten(found)
  assert all(np.asarray(ours[path]).tobytes() == np.asarray(theirs[path]).tobytes() for path in ours)
  stored = read_torch(tmp_path / WEIGHTS)
  assert len(stored) == tensors
  again = export_mini_omni(found)
  assert {name: array.tobytes() for name, array in in_numpy(stored, where=tmp_path).items()} == {
    name: array.tobytes() for name, array in again.items()
  }


def test_the_released_file_has_its_names_and_shapes():
  model = jax.eval_shape(lambda: MINI_OMNI_0_5B.make(key=jax.random.key(0)))
  shapes = {path: tuple(leaf.shape) for path, leaf in trees.flatten(model).items()}
  found = tensor_shapes(mini_omni_rules(MINI_OMNI_0_5B), shapes=shapes)
  found[HEAD] = found[TABLE]
  assert len(found) == 198 and sum(int(np.prod(shape)) for shape in found.values()) == 694_294_400
  assert found["transformer.h.23.attn.attn.weight"] == (1152, 896)
  assert found["transformer.h.0.attn.attn.bias"] == (1152,)
  assert found["transformer.h.0.attn.proj.weight"] == (896, 896)
  assert found["whisper_adapter.fc_2.weight"] == (4864, 768)
  assert found["transformer.h.7.mlp.proj.weight"] == (896, 4864)
  assert read_config(write_config(MINI_OMNI_0_5B)) == MINI_OMNI_0_5B


def test_heads_are_fused_group_by_group():
  model = drawn(deaf())
  fused = export_mini_omni(model)["transformer.h.1.attn.attn.weight"]
  attention = model.decoder.blocks.attention
  query, key, value = (np.asarray(part.weight[...])[1].T for part in (attention.query, attention.key, attention.value))
  expected = [query[:16], key[:8], value[:8], query[16:], key[8:], value[8:]]  # two groups of two heads of 8
  np.testing.assert_array_equal(fused, np.concatenate(expected))


def test_a_tied_model_refuses_another_head(tmp_path):
  write_mini_omni(drawn(deaf()), tmp_path)
  stored = read_torch(tmp_path / WEIGHTS)
  stored[HEAD] = stored[HEAD] + 1
  write_torch(tmp_path / WEIGHTS, stored)
  with pytest.raises(UserError, match=r"lm_head\.weight differs from transformer\.wte\.weight"):
    read_mini_omni(tmp_path)


def test_damaged_folders_and_foreign_configs_are_told(tmp_path):
  with pytest.raises(UserError, match=r"cannot read model_config\.yaml"):
    read_mini_omni(tmp_path)
  write_mini_omni(drawn(deaf()), tmp_path)
  (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:100])
  with pytest.raises(UserError, match=r"cannot read lit_model\.pth"):
    read_mini_omni(tmp_path)
  values = write_config(MINI_OMNI_0_5B)
  with pytest.raises(UserError, match="parallel_residual True"):
    read_config(values | {"parallel_residual": True})
  with pytest.raises(UserError, match="181121 rows"):
    read_config(values | {"padded_vocab_size": 181_121})
  with pytest.raises(UserError, match="entries behind its content"):
    write_config(dataclasses.replace(deaf(), layout=dataclasses.replace(LAYOUT, lead=2)))


def test_half_precision_keeps_its_bits(tmp_path):
  half = np.asarray(jax.numpy.arange(6, dtype="bfloat16") / 3)
  assert in_numpy(in_torch({"x": half}), where=tmp_path)["x"].tobytes() == half.tobytes()
