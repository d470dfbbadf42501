import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.convert.language import language_rules
from omni_jax.convert.table import export_tensors, import_leaves
from omni_jax.core import config as configs
from omni_jax.core import trees
from omni_jax.models import sizes
from omni_jax.models.moe import ExpertsConfig
from omni_jax.nn.attention import causal_mask
from omni_jax.nn.rotary import Llama3Scaling
from tests.models.twins import decoder_config, experts_twin, fused_experts, language_twin, shaken

KEY = jax.random.key(0)
call = jax.jit(lambda model, *inputs: model(*inputs))


def tokens_of(batch, length, vocab=32):
  tokens = jax.random.randint(jax.random.key(7), (batch, length), 0, vocab)
  return tokens, jnp.tile(jnp.arange(length), (batch, 1)), jnp.ones((batch, length), int)


SCALING = Llama3Scaling(factor=4.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_positions=24)
FAMILIES = {
  "qwen2 tied": decoder_config(tied=True),
  "qwen2 seven heads to one": decoder_config(tied=False, num_heads=14, head_dim=6),
  "qwen2 window": decoder_config(depth=3, window=3, full_depth=1),
  "llama scaled": decoder_config(tied=False, qkv_bias=False, rope_scaling=SCALING, norm_eps=1e-5, head_dim=12),
  "llama of 2023": decoder_config(tied=False, qkv_bias=False, num_kv_heads=4),
}


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_layer_block_logits_and_gradients_equal_transformers(config):
  torch = pytest.importorskip("torch")
  model = shaken(config.make(key=KEY))
  twin = language_twin(model)
  tokens, positions, segments = tokens_of(2, 9)
  kept = {}
  twin.model.layers[0].self_attn.register_forward_hook(lambda module, given, out: kept.update(attention=out[0]))
  theirs = twin(torch.from_numpy(np.array(tokens)).long(), output_hidden_states=True, labels=None)

  x = model.embed.embed(tokens)
  first = jax.tree.map(lambda leaf: leaf[0], model.blocks)
  context = (model._rotation(positions), causal_mask(segments))
  attention = first.attention(first.attention_norm(x), *context)
  np.testing.assert_allclose(attention, kept["attention"].detach(), atol=1e-5)
  np.testing.assert_allclose(first(x, *context), theirs.hidden_states[1].detach(), atol=1e-5)
  np.testing.assert_allclose(call(model, tokens, positions, segments), theirs.logits.detach(), atol=1e-4)

  def loss(model):
    return (jax.nn.logsumexp(model(tokens, positions, segments), axis=-1) ** 2).mean()

  (torch.logsumexp(theirs.logits, dim=-1) ** 2).mean().backward()
  gradients = {name: p.grad.numpy() for name, p in twin.named_parameters()}
  shapes = {path: leaf.shape for path, leaf in trees.flatten(model).items()}
  expected = import_leaves(language_rules(model.config), gradients, shapes=shapes)
  for path, gradient in trees.flatten(jax.jit(jax.grad(loss))(model)).items():
    np.testing.assert_allclose(gradient, expected[path], atol=2e-5, rtol=1e-4, err_msg=path)


EXPERTS = ExpertsConfig(num_experts=5, num_chosen=2, num_shared=2, mlp_dim=7, balance_weight=0.01)


def test_experts_layer_block_states_and_gradients_equal_transformers():
  torch = pytest.importorskip("torch")
  config = decoder_config(
    tied=False, qkv_bias=False, depth=3, num_kv_heads=4, head_dim=4, experts=EXPERTS, dense_depth=1
  )
  model = shaken(config.make(key=KEY))
  twin = experts_twin(model)
  tokens, positions, segments = tokens_of(2, 9)
  kept = {}
  twin.layers[1].mlp.register_forward_hook(lambda module, given, out: kept.update(given=given[0], mixed=out))
  twin.layers[1].register_forward_hook(lambda module, given, out: kept.update(block=out))
  theirs = twin(torch.from_numpy(np.array(tokens)).long(), output_hidden_states=True)

  first = jax.tree.map(lambda leaf: leaf[0], model.blocks)
  mixed, _ = first.feed_forward(jnp.asarray(kept["given"].detach().numpy()), segments > 0)
  np.testing.assert_allclose(mixed, kept["mixed"].detach(), atol=1e-5)
  context = (model._rotation(positions), causal_mask(segments))
  block = first(jnp.asarray(theirs.hidden_states[1].detach().numpy()), *context)
  np.testing.assert_allclose(block, kept["block"].detach(), atol=1e-5)

  def states(model):
    return model.hidden(model.embed.embed(tokens), positions, segments)

  np.testing.assert_allclose(states(model), theirs.last_hidden_state.detach(), atol=1e-4)
  (theirs.last_hidden_state**2).mean().backward()
  ours = jax.jit(jax.grad(lambda model: (states(model) ** 2).mean()))(model)
  leaves = {path: np.asarray(leaf) for path, leaf in trees.flatten(ours).items()}
  tensors = fused_experts(export_tensors(language_rules(config), leaves), config)
  for name, parameter in twin.named_parameters():
    np.testing.assert_allclose(tensors[name], parameter.grad, atol=2e-5, rtol=1e-4, err_msg=name)


DECODED = {
  "window": decoder_config(depth=3, window=3, full_depth=1),
  "experts": decoder_config(depth=3, experts=EXPERTS, dense_depth=1, tied=False),
}


@pytest.mark.parametrize("config", DECODED.values(), ids=DECODED)
@pytest.mark.parametrize("left", [0, 2])
def test_cached_decoding_of_every_kind_of_layer_equals_the_whole_row(config, left):
  model = shaken(config.make(key=KEY))
  tokens, positions, segments = tokens_of(2, 9)
  x = model.embed.embed(tokens)
  whole = model.hidden(x, positions, segments)
  widths = ((0, 0), (left, 0))
  prompt = jnp.pad(x[:, :5], (*widths, (0, 0)))
  padded = (jnp.pad(positions[:, :5], widths), jnp.pad(segments[:, :5], widths))
  found, cache = model.prefill(prompt, *padded, model.empty_cache(2, 12))
  np.testing.assert_allclose(found[:, left:], whole[:, :5], atol=1e-5)
  found, cache = model.step(x[:, 5:6], positions[:, 5:6], cache)
  np.testing.assert_allclose(found, whole[:, 5:6], atol=1e-5)
  found, _ = model.step(x[:, 6:], positions[:, 6:], cache)
  np.testing.assert_allclose(found, whole[:, 6:], atol=1e-5)


def test_sections_are_cut_where_layers_change():
  config = decoder_config(depth=5, tied=False, experts=EXPERTS, dense_depth=2, window=3, full_depth=3, qkv_bias=False)
  sections = config.make(key=KEY)._sections()
  assert [(s.start, s.stop, s.window) for s in sections] == [(0, 2, None), (2, 3, None), (3, 5, 3)]
  plain = decoder_config().make(key=KEY)
  (only,) = plain._sections()
  assert only.blocks is plain.blocks


def test_packed_rows_equal_separate_rows():
  model = shaken(decoder_config().make(key=KEY))
  tokens, positions, segments = tokens_of(1, 9)
  packed = call(model, tokens, jnp.array([[0, 1, 2, 3, 0, 1, 2, 0, 0]]), jnp.array([[1, 1, 1, 1, 2, 2, 2, 0, 0]]))
  first = call(model, tokens[:, :4], positions[:, :4], segments[:, :4])
  second = call(model, tokens[:, 4:7], positions[:, :3], segments[:, :3])
  np.testing.assert_allclose(packed[:, :4], first, atol=1e-5)
  np.testing.assert_allclose(packed[:, 4:7], second, atol=1e-5)


def test_remat_changes_neither_values_nor_gradients():
  inputs = tokens_of(1, 6)
  models = [shaken(decoder_config(remat=remat).make(key=KEY)) for remat in (False, True)]
  values = [jax.jit(jax.value_and_grad(lambda model: (model(*inputs) ** 2).mean()))(model) for model in models]
  np.testing.assert_allclose(values[0][0], values[1][0], rtol=1e-6)
  for plain, again in zip(*map(jax.tree.leaves, [values[0][1], values[1][1]]), strict=True):
    np.testing.assert_allclose(plain, again, atol=1e-5)


def test_a_decoder_of_text_alone_has_no_extra_table():
  model = decoder_config(extra_vocab_size=0).make(key=KEY)
  assert "embed.extra" not in trees.paths(model)
  assert model(*tokens_of(1, 4, vocab=20)).shape == (1, 4, 20)


def test_neighbouring_codes_start_near():
  config = decoder_config(extra_vocab_size=70, unit_levels=(4, 4, 4), width=64)
  rows = np.asarray(config.make(key=KEY).embed.extra[...])
  distance = np.linalg.norm(rows[:64, None] - rows[None, :64], axis=-1)
  digits = np.stack([np.arange(64) // 4**place % 4 for place in range(3)], axis=-1)
  steps = np.abs(digits[:, None] - digits[None]).sum(-1)
  assert distance[steps == 1].mean() < 0.7 * distance[steps >= 4].mean()
  np.testing.assert_allclose(rows[:64].std(), 0.02, rtol=0.15)
  assert len(np.unique(rows.round(6), axis=0)) == 70


def test_codes_that_do_not_fit_are_refused():
  with pytest.raises(AssertionError, match="do not fit"):
    decoder_config(unit_levels=(8, 8))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"dense_depth": 1}, "every layer is dense"),
    ({"experts": EXPERTS, "dense_depth": 2}, "2 dense layers of 2"),
    ({"window": 0}, "hides a position from itself"),
    ({"full_depth": 1}, "every layer is full"),
    ({"window": 4, "full_depth": 3}, "3 full layers of 2"),
  ],
)
def test_impossible_layers_are_refused(changes, message):
  with pytest.raises(AssertionError, match=message):
    decoder_config(**changes)


def test_a_config_stored_before_experts_and_windows_loads_and_keeps_its_fingerprint():
  config = decoder_config()
  stored = configs.to_json(config)
  assert not {"experts", "dense_depth", "window", "full_depth", "rope_scaling"} & set(stored)
  assert configs.from_json(stored) == config
  for changed in (FAMILIES["llama scaled"], DECODED["window"], DECODED["experts"]):
    assert configs.from_json(configs.to_json(changed)) == changed


# Exact numbers of parameters. Qwen: safetensors sizes on the hub (3,085,938,688 and so on); Llama: 6,738,415,616 and
# 8,030,261,248 as every count of them; DeepSeekMoE-tiny: from its dimensions, as in the comment below.
@pytest.mark.parametrize(
  ("config", "parameters"),
  [
    (sizes.QWEN2_0_5B, 494_032_768),
    (sizes.QWEN2_5_0_5B, 494_032_768),
    (sizes.QWEN2_5_1_5B, 1_543_714_304),
    (sizes.QWEN2_5_3B, 3_085_938_688),
    (sizes.QWEN2_5_7B, 7_615_616_512),
    (sizes.QWEN2_5_14B, 14_770_033_664),
    (sizes.QWEN2_5_32B, 32_763_876_352),
    (sizes.QWEN2_5_72B, 72_706_203_648),
    (sizes.LLAMA_7B, 6_738_415_616),
    (sizes.LLAMA_3_1_8B, 8_030_261_248),
    (sizes.LLAMA_3_1_70B, 70_553_706_496),
    # tables 2 x 129280 x 1280; 12 x (attention 4 x 1280^2 + norms 2 x 1280); dense 3 x 1280 x 6848;
    # 11 x (66 experts x 3 x 1280 x 896 + router 64 x 1280); last norm 1280
    (sizes.DEEPSEEK_MOE_TINY, 330_956_800 + 78_673_920 + 26_296_320 + 11 * (227_082_240 + 81_920) + 1280),
  ],
)
def test_published_sizes(config, parameters):
  assert trees.count(jax.eval_shape(lambda: config.make(key=KEY))) == parameters
