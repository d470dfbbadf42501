"""Speed of our decoder beside the peer's (transformers' Qwen2 on torch): a training step and cached greedy decoding.

Both have the same weights and the same inputs and run in turn in one process on the CPU, in float32; that they compute
the same is asserted first. A training step is forward, backward and AdamW, at 8 rows of 256 tokens; the peer runs it
eagerly and under torch.compile. Prints CPU seconds, wall seconds and the ratio peer / ours (above 1: ours is faster),
the median over rounds.

    python tools/benchmark_decoder.py [--rounds 5] [--width 384] [--depth 12]     (20 million parameters)

With `--apart` no peer is asked: greedy steps with the layers taken apart, as `generate.row_engine` has them, beside
steps over the stack, as `generate.engine` has them, of a trained stage or of random weights in the shape of
Qwen2-0.5B.

    python tools/benchmark_decoder.py --apart [--stage WORKDIR/stages/tune] [--batch 1 8] [--steps 8]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import transformers

from omni_jax.checkpoint.store import load_model
from omni_jax.convert.language import language_rules
from omni_jax.convert.table import export_tensors
from omni_jax.core import trees
from omni_jax.models.decoder import Decoder, DecoderConfig, KeyValueCache
from omni_jax.models.sizes import QWEN2_0_5B

VOCABULARY, ROWS, LENGTH, NEW_TOKENS = 4880, 8, 256, 64
RATE = 1e-4


def main() -> None:
  """Runs the tasks and prints a line for each."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--width", type=int, default=384)
  parser.add_argument("--depth", type=int, default=12)
  parser.add_argument("--apart", action="store_true", help="compare layers that are taken apart with a stack")
  parser.add_argument("--stage", type=Path, metavar="FOLDER", help="whose decoder; default: the shape of Qwen2-0.5B")
  parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="rows that decode together")
  parser.add_argument("--steps", type=int, default=8, help="of each decoding that is timed")
  arguments = parser.parse_args()
  if arguments.apart:
    compare_forms(arguments.stage, batches=arguments.batch, steps=arguments.steps, rounds=arguments.rounds)
    return
  width, heads = arguments.width, arguments.width // 64
  config = DecoderConfig(
    vocab_size=VOCABULARY, extra_vocab_size=0, width=width, depth=arguments.depth, num_heads=heads,
    num_kv_heads=heads // 2, head_dim=64, mlp_dim=width * 5 // 2, rope_theta=1e4, norm_eps=1e-6, qkv_bias=True,
    tied=True,
  )  # fmt: skip
  ours = config.make(key=jax.random.key(0))
  theirs = peer(ours)
  tokens = np.random.default_rng(0).integers(0, VOCABULARY, (ROWS, LENGTH))
  count = sum(leaf.size for leaf in jax.tree.leaves(ours))
  print(f"{count / 1e6:.1f} million parameters, {ROWS} x {LENGTH} tokens, {torch.get_num_threads()} threads")
  check_equal(ours, theirs, tokens)
  step = our_step(ours, tokens)
  report("training step, torch eager", arguments.rounds, step, peer_step(theirs, tokens))
  report("training step, torch.compile", arguments.rounds, step, peer_step(torch.compile(peer(ours)), tokens))
  prompt = tokens[:1, :64]
  report("greedy decoding, batch 1", arguments.rounds, our_decoding(ours, prompt), peer_decoding(peer(ours), prompt))


def compare_forms(stage: Path | None, *, batches: list[int], steps: int, rounds: int) -> None:
  """Prints what a step costs with the layers apart and in a stack; that both choose the same is asserted first."""
  if stage is None:
    decoder = jax.block_until_ready(jax.jit(lambda key: QWEN2_0_5B.make(key=key))(jax.random.key(0)))
  else:
    decoder = load_model(stage)[1].decoder
  count = sum(leaf.size for leaf in jax.tree.leaves(decoder))
  print(f"{count / 1e6:.1f} million parameters, {decoder.config.depth} layers, {steps} steps", flush=True)
  forms = decoder.unrolled(), decoder
  for batch in batches:
    prompt = np.random.default_rng(0).integers(0, decoder.config.vocab_size, (batch, 64))
    apart, stacked = (our_steps(form, prompt, steps) for form in forms)
    (ours, own), (theirs, other) = apart(), stacked()
    np.testing.assert_array_equal(ours, theirs, "tokens")
    np.testing.assert_allclose(own, other, atol=1e-5 * float(np.abs(other).max()), err_msg="logits of the last step")
    report(f"greedy steps, layers apart against a stack, batch {batch}", rounds, apart, stacked)


def our_steps(model: Decoder, prompt: np.ndarray, count: int) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
  """Returns a function that decodes `count` tokens behind a prompt that was read: tokens [B, N], last logits [B, V]."""
  array = jnp.asarray(prompt, jnp.int32)
  batch, length = array.shape
  positions = jnp.broadcast_to(jnp.arange(length), array.shape)
  read = jax.jit(lambda model, cache: model.prefill(model.embed.embed(array), positions, jnp.ones_like(array), cache))
  x, cache = read(model, model.empty_cache(batch, length + count))

  @jax.jit
  def decode(model: Decoder, logits: jax.Array, cache: KeyValueCache):
    def body(carry, position):
      logits, cache = carry
      token = logits.argmax(-1)
      x, cache = model.step(model.embed.embed(token), jnp.full((batch, 1), position), cache)
      return (model.logits(x), cache), token[:, 0]

    (logits, _), tokens = jax.lax.scan(body, (logits, cache), length + jnp.arange(count))
    return tokens.T, logits[:, 0]

  first = model.logits(x[:, -1:])
  return lambda: jax.tree.map(np.asarray, decode(model, first, cache))


def peer(ours: Decoder) -> transformers.Qwen2ForCausalLM:
  """Returns the peer's model with the same weights."""
  config = ours.config
  model = transformers.Qwen2ForCausalLM(
    transformers.Qwen2Config(
      vocab_size=config.vocab_size, hidden_size=config.width, num_hidden_layers=config.depth,
      num_attention_heads=config.num_heads, num_key_value_heads=config.num_kv_heads, intermediate_size=config.mlp_dim,
      rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta}, tie_word_embeddings=True,
    )
  )  # fmt: skip
  leaves = {path: np.asarray(leaf) for path, leaf in trees.flatten(ours).items()}
  tensors = export_tensors(language_rules(config), leaves)
  missing = model.load_state_dict({name: torch.tensor(value) for name, value in tensors.items()}, strict=False)
  assert missing.missing_keys == ["lm_head.weight"] and not missing.unexpected_keys, missing
  return model


def check_equal(ours: Decoder, theirs: torch.nn.Module, tokens: np.ndarray) -> None:
  """Stops unless both give the same logits."""
  array = jnp.asarray(tokens[:1], jnp.int32)
  own = np.asarray(ours(array, jnp.arange(LENGTH)[None], jnp.ones_like(array)))
  with torch.no_grad():
    other = theirs(input_ids=torch.as_tensor(tokens[:1])).logits.numpy()
  apart = np.abs(own - other).max() / np.abs(other).max()
  assert apart < 1e-4, f"the two models differ by {apart:.1e} of the largest logit"


def our_step(model: Decoder, tokens: np.ndarray) -> Callable[[], None]:
  """Returns a function that runs one step of training."""
  array = jnp.asarray(tokens, jnp.int32)
  positions, segments = jnp.broadcast_to(jnp.arange(LENGTH), array.shape), jnp.ones_like(array)
  optimizer = optax.adamw(RATE, weight_decay=0.0)

  def loss_of(model: Decoder):
    logits = model(array, positions, segments)[:, :-1]
    chosen = jnp.take_along_axis(logits, array[:, 1:, None], axis=-1)[..., 0]
    return (jax.nn.logsumexp(logits, axis=-1) - chosen).mean()

  def step(model: Decoder, moments):
    updates, moments = optimizer.update(jax.grad(loss_of)(model), moments, model)
    return optax.apply_updates(model, updates), moments

  compiled = jax.jit(step, donate_argnums=(0, 1))
  state = [jax.tree.map(jnp.copy, model), optimizer.init(model)]

  def run() -> None:
    state[:] = jax.block_until_ready(compiled(*state))

  return run


def peer_step(model: torch.nn.Module, tokens: np.ndarray) -> Callable[[], None]:
  """Returns a function that runs one step of training."""
  ids = torch.as_tensor(tokens)
  optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)

  def step() -> None:
    optimizer.zero_grad()
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()

  return step


def our_decoding(model: Decoder, prompt: np.ndarray) -> Callable[[], None]:
  """Returns a function that decodes NEW_TOKENS greedily in one compiled loop."""
  array = jnp.asarray(prompt, jnp.int32)
  length = array.shape[1]

  @jax.jit
  def decode(model: Decoder):
    cache = model.empty_cache(1, length + NEW_TOKENS)
    x, cache = model.prefill(model.embed.embed(array), jnp.arange(length)[None], jnp.ones_like(array), cache)

    def body(carry, position):
      token, cache = carry
      x, cache = model.step(model.embed.embed(token), position[None, None], cache)
      return (model.logits(x).argmax(-1), cache), token

    first = model.logits(x[:, -1:]).argmax(-1)
    return jax.lax.scan(body, (first, cache), length + jnp.arange(NEW_TOKENS - 1))[1]

  return lambda: jax.block_until_ready(decode(model)) is None


def peer_decoding(model: transformers.Qwen2ForCausalLM, prompt: np.ndarray) -> Callable[[], None]:
  """Returns a function that decodes NEW_TOKENS greedily with the peer's own generate."""
  ids = torch.as_tensor(prompt)
  settings = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": 0}

  def decode() -> None:
    with torch.no_grad():
      model.generate(ids, attention_mask=torch.ones_like(ids), **settings)

  return decode


def report(title: str, rounds: int, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
  """Runs both in turn, `rounds` times after two warm-ups, and prints medians and their ratios."""
  for _ in range(2):
    ours(), theirs()
  pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
  words = []
  for place, kind in enumerate(("CPU", "wall")):
    own, other = ([times[place] for times in column] for column in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in zip(own, other, strict=True))
    medians = statistics.median(own), statistics.median(other)
    words.append(f"{kind} {medians[0]:.3f} against {medians[1]:.3f} s, ratio {ratio:.2f}")
  print(f"{title}: {'; '.join(words)}", flush=True)


def seconds(function: Callable[[], object]) -> tuple[float, float]:
  """Returns the CPU time (all threads together) and the wall time of one call."""
  cpu, wall = time.process_time(), time.perf_counter()
  function()
  return time.process_time() - cpu, time.perf_counter() - wall


if __name__ == "__main__":
  main()
