import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core import trees
from omni_jax.models.emova import EMOVA_3B, EMOVA_7B, EMOVA_8B_V1, EMOVA_72B, EmovaConfig
from omni_jax.models.projectors import ProjectorConfig
from tests.models.twins import emova_config, shaken

LENGTHS = (7, 4, 5)
ANSWER = 3

# Jitted: op by op a small model takes longer to dispatch than to compile.
call = jax.jit(lambda model, batch: model(batch))
prefill = jax.jit(lambda model, batch, cache: model.prefill(batch, cache))
step = jax.jit(lambda model, *inputs: model.step(*inputs))


@pytest.fixture(scope="module")
def model():
  return shaken(emova_config().make(key=jax.random.key(0)))


def rows():
  """Returns three prompts with their answers, each with a 2x4-patch image after its first token, as single rows."""
  rng = np.random.default_rng(0)
  made = []
  for length in LENGTHS:
    tokens = rng.integers(4, 32, length + ANSWER)
    tokens[1:3] = 3
    made.append({"tokens": tokens, "patches": rng.integers(0, 256, (8, 12)).astype(np.uint8)})
  positions = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [0, 3], [1, 2], [1, 3]])
  images = {
    "patches": jnp.asarray(np.stack([row["patches"] for row in made]))[:, None],
    "patch_positions": jnp.asarray(np.tile(positions, (3, 1, 1, 1))),
    "patch_segment_ids": jnp.ones((3, 1, 8), jnp.int32),
  }
  return [row["tokens"] for row in made], images


def one(tokens, images, index):
  return {
    "tokens": jnp.asarray(tokens)[None],
    "positions": jnp.arange(len(tokens))[None],
    "segment_ids": jnp.ones((1, len(tokens)), jnp.int32),
    **{name: value[index : index + 1] for name, value in images.items()},
  }


@pytest.mark.parametrize("side", ["left", "right"])
def test_cached_decoding_equals_the_whole_row(model, side):
  tokens, images = rows()
  width = max(LENGTHS) + 1
  prompt = {name: np.zeros((3, width), np.int32) for name in ("tokens", "positions", "segment_ids")}
  for index, length in enumerate(LENGTHS):
    places = slice(0, length) if side == "right" else slice(width - length, width)
    prompt["tokens"][index, places] = tokens[index][:length]
    prompt["positions"][index, places] = np.arange(length)
    prompt["segment_ids"][index, places] = 1
  logits, cache = prefill(model, jax.tree.map(jnp.asarray, prompt) | images, model.empty_cache(3, width + ANSWER + 2))
  found = [logits]
  for place in range(ANSWER):
    following = jnp.array([[tokens[index][length + place]] for index, length in enumerate(LENGTHS)])
    logits, cache = step(model, following, jnp.array([[length + place] for length in LENGTHS]), cache)
    found.append(logits)
  for index, length in enumerate(LENGTHS):
    whole = call(model, one(tokens[index], images, index))[0, length - 1 :]
    np.testing.assert_allclose(jnp.concatenate(found, axis=1)[index], whole, atol=1e-5)


def test_several_tokens_in_one_step_equal_one_by_one(model):
  tokens, images = rows()
  prompt = one(tokens[0][:7], images, 0)
  _, cache = prefill(model, prompt, model.empty_cache(1, 12))
  logits, _ = step(model, jnp.asarray(tokens[0][7:])[None], jnp.arange(7, 10)[None], cache)
  whole = call(model, one(tokens[0], images, 0))[:, 7:]
  np.testing.assert_allclose(logits, whole, atol=1e-5)


def test_an_image_changes_what_follows_and_nothing_before(model):
  tokens, images = rows()
  batch = one(tokens[0], images, 0)
  other = batch | {"patches": 255 - batch["patches"]}
  same, changed = call(model, batch), call(model, other)
  np.testing.assert_array_equal(same[:, :1], changed[:, :1])
  assert not np.allclose(same[:, 3:], changed[:, 3:], atol=1e-3)


def test_no_patches_and_empty_patches_skip_the_tower(model):
  _, images = rows()
  batch = one(np.arange(4, 10), {}, 0)
  empty = {name: value[:1, :0] for name, value in images.items()}
  np.testing.assert_array_equal(call(model, batch), call(model, batch | empty))


def test_windows_equal_one_window(model):
  tokens, images = rows()
  packed = {name: jnp.concatenate([value[:1], value[1:2]], axis=1) for name, value in images.items()}
  one_window = {name: value.reshape(1, 1, 16, *value.shape[3:]) for name, value in packed.items()}
  one_window["patch_segment_ids"] = one_window["patch_segment_ids"].at[0, 0, 8:].set(2)
  # Windows of twelve patches: four of each are only filled up.
  filled = {
    name: jnp.pad(value, ((0, 0), (0, 0), (0, 4)) + ((0, 0),) * (value.ndim - 3)) for name, value in packed.items()
  }
  batch = one(np.concatenate([tokens[0], tokens[1]]), {}, 0)
  np.testing.assert_allclose(call(model, batch | filled), call(model, batch | one_window), atol=1e-5)


def test_branches_of_a_row_do_not_see_each_other(model):
  tokens, images = rows()
  trunk, branches = tokens[0][:3], (tokens[0][3:8], tokens[1][3:7])
  row = one(np.concatenate([trunk, *branches]), images, 0)
  row["branch_ids"] = jnp.array([[0] * 3 + [1] * 5 + [2] * 4])
  row["positions"] = jnp.array([[0, 1, 2, *range(3, 8), *range(3, 7)]])
  together = call(model, row)
  for branch, places in zip(branches, (slice(3, 8), slice(8, 12)), strict=True):
    alone = call(model, one(np.concatenate([trunk, branch]), images, 0))[:, 3:]
    np.testing.assert_allclose(together[:, places], alone, atol=1e-5)


def test_logits_of_hidden_equal_the_call(model):
  batch = one(np.arange(4, 10), {}, 0)
  np.testing.assert_allclose(model.logits(model.hidden(batch)[:, 2:4]), call(model, batch)[:, 2:4], atol=1e-6)


def test_config_stores_and_refuses_parts_that_do_not_join():
  from omni_jax.core.config import from_json, to_json

  config = emova_config()
  assert from_json(to_json(config)) == config
  with pytest.raises(AssertionError, match="does not join"):
    EmovaConfig(
      decoder=config.decoder, vision=config.vision, projector=ProjectorConfig(inputs=5, outputs=16), image_token=3
    )


# Whole-model parameters of the published EMOVA checkpoints.
@pytest.mark.parametrize(
  ("config", "parameters"), [(EMOVA_3B, 3_781_100_544), (EMOVA_7B, 8_343_680_512), (EMOVA_72B, 73_539_265_536)]
)
def test_published_sizes(config, parameters):
  assert trees.count(jax.eval_shape(lambda: config.make(key=jax.random.key(0)))) == parameters


def test_the_first_version_is_the_sum_of_its_parts():
  model = jax.eval_shape(lambda: EMOVA_8B_V1.make(key=jax.random.key(0)))
  counts = {
    "decoder": 8_030_261_248 + 2 * 4096 * 4096,  # Llama-3.1-8B and 4096 units, in both tables
    "vision": 5_536_496_000,
    "projector": 17_174_048 + 20_979_712,
    "newline": 4096,
  }
  found = trees.flatten(model)
  for part, count in counts.items():
    assert sum(leaf.size for path, leaf in found.items() if path.split(".")[0] == part) == count
  assert trees.count(model) == sum(counts.values()) == 13_638_469_536
