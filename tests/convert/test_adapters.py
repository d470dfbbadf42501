import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.convert.adapters import export_adapters, import_adapters
from omni_jax.convert.language import export_language
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.nn.lora import AdaptedConfig
from tests.models.twins import decoder_config, emova_config, shaken

BASE = decoder_config(num_heads=7, num_kv_heads=1, head_dim=6, tied=False)


def make(*, targets=("blocks",), base=BASE, rank=3):
  model = AdaptedConfig(base=base, targets=targets, rank=rank, alpha=6.0).make(key=jax.random.key(0))
  return shaken(model)


def test_a_folder_comes_back_bit_for_bit(tmp_path):
  model = make()
  export_adapters(model, tmp_path)
  again = import_adapters(make().adapters.make(key=jax.random.key(4)), tmp_path)
  for path, leaf in trees.flatten(model).items():
    if path.startswith("pairs."):
      np.testing.assert_array_equal(trees.flatten(again)[path], leaf)


def test_names_and_shapes_are_those_of_peft(tmp_path):
  from safetensors.numpy import load_file

  export_adapters(make(base=emova_config(), targets=(r"decoder\.blocks\.attention\.query",)), tmp_path, base="a/b")
  tensors = load_file(tmp_path / "adapter_model.safetensors")
  head = "base_model.model.model.layers.{}.self_attn.q_proj.lora_{}.weight"
  shapes = {head.format(layer, side): shape for layer in (0, 1) for side, shape in (("A", (3, 16)), ("B", (32, 3)))}
  assert {name: tensor.shape for name, tensor in tensors.items()} == shapes
  card = json.loads((tmp_path / "adapter_config.json").read_text())
  assert card["target_modules"] == ["q_proj"] and card["base_model_name_or_path"] == "a/b"
  assert (card["r"], card["lora_alpha"], card["peft_type"]) == (3, 6.0, "LORA")


def test_what_does_not_fit_is_refused(tmp_path):
  with pytest.raises(UserError, match=r"outside the layers of the language model: vision"):
    export_adapters(make(base=emova_config(), targets=("vision",)), tmp_path)
  export_adapters(make(), tmp_path)
  with pytest.raises(UserError, match="rank 3, alpha 6"):
    import_adapters(make(rank=2), tmp_path)
  with pytest.raises(UserError, match=r"- base_model.*k_proj"):
    import_adapters(make(targets=(r"blocks\.attention\.query",)), tmp_path)
  with pytest.raises(UserError, match="8 shapes differ"):
    import_adapters(make(base=decoder_config(num_heads=7, num_kv_heads=1, head_dim=8, tied=False)), tmp_path)
  (tmp_path / "adapter_model.safetensors").write_bytes(b"x")
  with pytest.raises(UserError, match="cannot read the adapters"):
    import_adapters(make(), tmp_path)


def test_logits_and_gradients_are_those_of_peft(tmp_path):
  torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
  peft = pytest.importorskip("peft")
  model = make()
  export_language(model.base, tmp_path / "base")
  export_adapters(model, tmp_path / "adapters")
  twin = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
  twin = peft.PeftModel.from_pretrained(twin, tmp_path / "adapters", is_trainable=True).eval()
  tokens = np.random.default_rng(0).integers(0, 32, (2, 5))
  logits = twin(torch.from_numpy(tokens)).logits
  (logits**2).mean().backward()
  positions, leaves = jnp.tile(jnp.arange(5), (2, 1)), trees.flatten(model)

  def loss(pairs):
    found = trees.unflatten(model, leaves | pairs)(jnp.asarray(tokens), positions, jnp.ones((2, 5), int))
    return (found**2).mean(), found

  pairs = {path: leaf for path, leaf in leaves.items() if path.startswith("pairs.")}
  gradients, found = jax.jit(jax.grad(loss, has_aux=True))(pairs)
  np.testing.assert_allclose(found, logits.detach().numpy(), rtol=1e-4, atol=1e-5)
  theirs = {name: value.grad.numpy() for name, value in twin.named_parameters() if value.requires_grad}
  assert len(theirs) == 2 * len(pairs)
  for ours, path in (("q_proj", "attention.query"), ("down_proj", "feed_forward.down"), ("v_proj", "attention.value")):
    for side, letter in (("down", "A"), ("up", "B")):
      for layer in (0, 1):
        (name,) = [n for n in theirs if f"layers.{layer}." in n and f"{ours}.lora_{letter}" in n]
        ours_gradient = np.asarray(gradients[f"pairs.blocks.{path}.weight.{side}"][layer]).T
        np.testing.assert_allclose(ours_gradient, theirs[name], rtol=1e-4, atol=1e-6)
