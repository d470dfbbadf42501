import numpy as np
import pytest

from omni_jax.convert.table import Rule, export_tensors, import_leaves, prefixed, tensor_shapes
from omni_jax.core.errors import UserError

RULES = [
  Rule("embed.weight", ("embed.text", "embed.extra")),
  Rule("layers.{layer}.qkv.weight", ("blocks.query", "blocks.key"), "output input -> input output"),
  Rule("conv.weight", ("conv",), "w c r -> (r c) w", (("c", 2), ("r", 3))),
]
SHAPES = {
  "embed.text": (5, 4),
  "embed.extra": (3, 4),
  "blocks.query": (2, 4, 6),
  "blocks.key": (2, 4, 2),
  "conv": (6, 4),
}


def leaves(dtype=np.float32):
  rng = np.random.default_rng(0)
  return {path: rng.normal(size=shape).astype(dtype) for path, shape in SHAPES.items()}


def test_names_and_shapes_of_the_other_side():
  tensors = export_tensors(RULES, leaves())
  assert {name: tensor.shape for name, tensor in tensors.items()} == {
    "embed.weight": (8, 4),
    "layers.0.qkv.weight": (8, 4),
    "layers.1.qkv.weight": (8, 4),
    "conv.weight": (4, 2, 3),
  }
  np.testing.assert_array_equal(tensors["layers.1.qkv.weight"][:6], leaves()["blocks.query"][1].T)
  np.testing.assert_array_equal(tensors["conv.weight"][:, 1, 2], leaves()["conv"][2 * 2 + 1])


def test_there_and_back_is_the_same_bits():
  ml_dtypes = pytest.importorskip("ml_dtypes")
  for dtype in (np.float32, ml_dtypes.bfloat16):
    given = leaves(dtype)
    found = import_leaves(RULES, export_tensors(RULES, given), shapes=SHAPES)
    assert set(found) == set(given)
    for path in given:
      assert found[path].dtype == dtype and found[path].tobytes() == given[path].tobytes()


def test_every_difference_is_told_at_once():
  tensors = export_tensors(RULES, leaves())
  tensors["stray"] = tensors.pop("conv.weight")
  del tensors["layers.1.qkv.weight"]
  with pytest.raises(UserError) as caught:
    import_leaves(RULES, tensors, shapes=SHAPES | {"new": (1,)})
  for line in ("- stray", "+ conv.weight", "+ layers.1.qkv.weight", "+ new"):
    assert line in caught.value.what


def test_wrong_shapes_are_told():
  tensors = export_tensors(RULES, leaves())
  tensors["embed.weight"] = tensors["embed.weight"][:7]
  with pytest.raises(UserError, match=r"embed.weight: shape \(7, 4\), ours is \(8, 4\) \(5 \+ 3 rows\)"):
    import_leaves(RULES, tensors, shapes=SHAPES)
  tensors = export_tensors(RULES, leaves())
  tensors["conv.weight"] = np.zeros((5, 2, 3), np.float32)
  tensors["layers.1.qkv.weight"] = np.zeros(8, np.float32)
  with pytest.raises(UserError) as caught:
    import_leaves(RULES, tensors, shapes=SHAPES)
  assert "conv.weight: shape (5, 2, 3), ours is (4, 2, 3)" in caught.value.what
  assert "layers.1.qkv.weight: shape (8,), ours is (8, 4)" in caught.value.what
  tensors = export_tensors(RULES, leaves())
  tensors["layers.1.qkv.weight"] = tensors["layers.1.qkv.weight"].astype(np.float16)
  with pytest.raises(UserError, match=r"layers.1.qkv.weight: float16, before it float32"):
    import_leaves(RULES, tensors, shapes=SHAPES)


def test_a_leaf_without_a_rule_is_told():
  with pytest.raises(UserError, match="- stray"):
    export_tensors(RULES, leaves() | {"stray": np.zeros(1)})


def test_experts_and_a_first_layer_that_is_not_zero():
  rule = Rule("layers.{layer}.experts.{expert}.up", ("experts.up",), "output input -> input output", first_layer=1)
  given = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
  tensors = export_tensors([rule], {"experts.up": given})
  assert list(tensors) == [f"layers.{layer}.experts.{expert}.up" for layer in (1, 2) for expert in range(3)]
  np.testing.assert_array_equal(tensors["layers.2.experts.1.up"], given[1, 1].T)
  shapes = {"experts.up": given.shape}
  np.testing.assert_array_equal(import_leaves([rule], tensors, shapes=shapes)["experts.up"], given)
  assert tensor_shapes([rule], shapes=shapes) == dict.fromkeys(tensors, (5, 4))


def test_shapes_of_the_other_side_need_no_values():
  tensors = export_tensors(RULES, leaves())
  assert tensor_shapes(RULES, shapes=SHAPES) == {name: tensor.shape for name, tensor in tensors.items()}
  with pytest.raises(UserError, match=r"conv\.weight: used twice"):
    tensor_shapes([*RULES, Rule("conv.weight", ("other",))], shapes=SHAPES | {"other": (1,)})


def test_prefixes():
  (rule,) = prefixed(RULES[2:], theirs="model.", ours="vision.")
  assert (rule.theirs, rule.ours) == ("model.conv.weight", ("vision.conv",))
