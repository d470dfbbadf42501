import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.generate import engine as engine_module
from omni_jax.generate.constraints import make_automaton
from omni_jax.generate.engine import Engine, Prompt
from omni_jax.generate.sampling import Sampling


@pytest.fixture
def engine(model, dialogue) -> Engine:
  return Engine(model, make_automaton(dialogue.vocabulary), sampling=Sampling(), max_tokens=256)


def prompts() -> list[Prompt]:
  draw = np.random.default_rng(0)
  return [Prompt(tokens=draw.integers(260, 290, size).astype(np.int32), state="gender") for size in (3, 17, 9)]


def seeing(prompt, images, dialogue, *sizes) -> Prompt:
  """Returns a prompt with images of these sizes in front."""
  pixels = [np.random.default_rng(size).integers(0, 255, (*size, 3)).astype(np.uint8) for size in sizes]
  read = images.read(pixels)
  place = np.full(sum(read.places), dialogue.vocabulary.control("image"), np.int32)
  return Prompt(tokens=np.concatenate([place, prompt.tokens]), state="write", images=images.row(read))


@pytest.mark.parametrize("kind", ["patches", "tiles"])
def test_batched_equals_one_by_one_and_uncached(dialogue, request, kind):
  names = {"patches": ("model", "images"), "tiles": ("tiled_model", "tiles")}
  model, images = map(request.getfixturevalue, names[kind])
  engine = Engine(model, make_automaton(dialogue.vocabulary), sampling=Sampling(), max_tokens=256)
  rows = prompts()
  rows.append(seeing(rows[0], images, dialogue, (9, 24)))
  rows.append(seeing(rows[0], images, dialogue, (24, 9), (16, 24)))  # two images
  together = engine.generate(rows, max_new_tokens=20)
  for row in (1, 4):
    (alone,) = engine.generate([rows[row]], max_new_tokens=20)
    np.testing.assert_array_equal(alone, together[row])
  np.testing.assert_array_equal(_slowly(model, dialogue, rows[4], count=6), together[4][:6])


def _slowly(model, dialogue, prompt: Prompt, *, count: int) -> np.ndarray:
  """The same by whole forward passes."""
  automaton, length = make_automaton(dialogue.vocabulary), 128
  forward = jax.jit(lambda model, batch: model(batch))
  states, tokens, chosen = jnp.array([automaton.state(prompt.state)]), prompt.tokens.tolist(), []
  for _ in range(count):
    places = np.arange(length)[None]
    batch = {
      "tokens": np.array([tokens + [0] * (length - len(tokens))], np.int32),
      "positions": places.astype(np.int32),
      "segment_ids": (places < len(tokens)).astype(np.int32),
    }
    batch |= {name: array[None] for name, array in prompt.images.items()}
    logits = forward(model, batch)[:, len(tokens) - 1]
    token = jnp.argmax(jnp.where(automaton.mask(states), logits, -jnp.inf), axis=-1)
    states = automaton.advance(states, token)
    chosen.append(int(token[0]))
    tokens.append(chosen[-1])
  return np.array(chosen)


def test_likelihoods_are_those_of_whole_passes(engine, model):
  asked, said = [[260, 261, 262], [270], [263, 264]], [[265, 266], [267, 268, 269, 270], [271]]
  found = engine.log_likelihood(asked, said)
  for row, (prompt, answer) in enumerate(zip(asked, said, strict=True)):
    tokens = jnp.array([[*prompt, *answer]], jnp.int32)
    places = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]
    logits = model({"tokens": tokens, "positions": places, "segment_ids": jnp.ones_like(tokens)})[0]
    log_probs = np.asarray(jax.nn.log_softmax(logits))
    expected = sum(log_probs[len(prompt) - 1 + place, token] for place, token in enumerate(answer))
    np.testing.assert_allclose(found[row], expected, rtol=1e-4)


@pytest.mark.parametrize("limit", ["_MOST_SCORES", "_MOST_LOGITS"])
def test_likelihoods_of_many_are_those_of_few_at_a_time(engine, monkeypatch, limit):
  asked, said = [[260, 261, 262], [270], [263, 264]] * 3, [[265, 266], [267, 268, 269, 270], [271]] * 3
  whole, rows, score = engine.log_likelihood(asked, said), [], engine_module._log_likelihood
  monkeypatch.setattr(
    engine_module,
    "_log_likelihood",
    lambda model, batch, *rest: rows.append(len(rest[0])) or score(model, batch, *rest),
  )
  monkeypatch.setattr(engine_module, limit, 1)
  np.testing.assert_allclose(engine.log_likelihood(asked, said), whole, rtol=1e-5)
  assert rows == [1] * 9


@pytest.mark.parametrize(("most", "rows"), [(0, 1), (1, 1), (3, 2), (127, 64), (128, 128), (300, 256)])
def test_rows_that_go_together_are_no_padding(most, rows):
  assert engine_module._whole_batch(most) == rows == engine_module.batch_rows(rows)


def test_blocks_together_are_the_answer(engine):
  rows = prompts()
  whole = engine.generate(rows[:1], max_new_tokens=30)[0]
  blocks = list(engine.stream(rows[:1], max_new_tokens=30, block=4))
  np.testing.assert_array_equal(np.concatenate(blocks, axis=1)[0][: len(whole)], whole)
  assert all(block.shape[1] <= 4 for block in blocks)


def test_answers_keep_the_layout_whatever_the_model(engine, dialogue):
  rows = prompts()
  sampled = Engine(engine._model, engine._automaton, sampling=Sampling(temperature=3.0), max_tokens=256)
  for seed in range(3):
    for ids in sampled.generate(rows, max_new_tokens=64, key=jax.random.key(seed)):
      if len(ids) < 64:
        assert dialogue.read(ids).problem in ("", "no text")


def test_no_prompts_give_no_answers(engine):
  assert engine.generate([], max_new_tokens=4) == []


def test_too_long_a_prompt_is_told(engine):
  with pytest.raises(UserError, match="a prompt of 250 tokens"):
    engine.generate([Prompt(tokens=np.full(250, 260, np.int32), state="write")], max_new_tokens=10)


def test_a_large_batch_is_padded_little(engine):
  few = engine.prefill(prompts(), max_new_tokens=8)
  many = engine.prefill(prompts() * 50, max_new_tokens=8)
  assert (len(few.logits), len(many.logits)) == (4, 256)  # of 3 and of 150
  np.testing.assert_allclose(many.logits[147:150], few.logits[:3], atol=1e-4)
