"""Speed of our decoder beside the peer's (transformers' Qwen2 on torch): a training step and cached greedy decoding.

Both have the same sizes, random weights and the same inputs, and run in turn in one process on the CPU, in
float32; that they compute the same is tested in `tests/convert`. Prints CPU seconds and
the ratio peer / ours (above 1: ours is faster), the median over rounds.

    python tools/benchmark_decoder.py [--rounds 5] [--width 256] [--depth 4]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from omni_jax.models.decoder import Decoder, DecoderConfig

VOCABULARY, ROWS, LENGTH, NEW_TOKENS = 4880, 8, 256, 64


def main() -> None:
  """Runs both tasks and prints one line for each."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--width", type=int, default=256)
  parser.add_argument("--depth", type=int, default=4)
  arguments = parser.parse_args()
  width, heads = arguments.width, 4
  config = DecoderConfig(
    vocab_size=VOCABULARY, extra_vocab_size=0, width=width, depth=arguments.depth, num_heads=heads, num_kv_heads=2,
    head_dim=width // heads, mlp_dim=width * 5 // 2, rope_theta=1e4, norm_eps=1e-6, qkv_bias=True, tied=True,
  )  # fmt: skip
  ours, theirs = config.make(key=jax.random.key(0)), peer(config)
  tokens = np.random.default_rng(0).integers(0, VOCABULARY, (ROWS, LENGTH))
  report("training step (forward, backward)", arguments.rounds, our_step(ours, tokens), peer_step(theirs, tokens))
  prompt = tokens[:1, :64]
  report("greedy decoding, batch 1", arguments.rounds, our_decoding(ours, prompt), peer_decoding(theirs, prompt))


def peer(config: DecoderConfig) -> transformers.Qwen2ForCausalLM:
  """Returns the peer's model of the same sizes."""
  return transformers.Qwen2ForCausalLM(
    transformers.Qwen2Config(
      vocab_size=config.vocab_size, hidden_size=config.width, num_hidden_layers=config.depth,
      num_attention_heads=config.num_heads, num_key_value_heads=config.num_kv_heads, intermediate_size=config.mlp_dim,
      tie_word_embeddings=True,
    )
  )  # fmt: skip


def our_step(model: Decoder, tokens: np.ndarray) -> Callable[[], None]:
  """Returns a function that runs one forward and backward pass."""
  array = jnp.asarray(tokens, jnp.int32)
  positions, segments = jnp.broadcast_to(jnp.arange(LENGTH), array.shape), jnp.ones_like(array)

  @jax.jit
  @jax.value_and_grad
  def step(model: Decoder):
    logits = model(array, positions, segments)[:, :-1]
    chosen = jnp.take_along_axis(logits, array[:, 1:, None], axis=-1)[..., 0]
    return (jax.nn.logsumexp(logits, axis=-1) - chosen).mean()

  return lambda: jax.block_until_ready(step(model)) and None


def peer_step(model: torch.nn.Module, tokens: np.ndarray) -> Callable[[], None]:
  """Returns a function that runs one forward and backward pass."""
  ids = torch.as_tensor(tokens)

  def step() -> None:
    model.zero_grad()
    model(input_ids=ids, labels=ids).loss.backward()

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
  """Runs both in turn, `rounds` times after one warm-up, and prints medians of CPU seconds and their ratio."""
  ours(), theirs()
  pairs = [(cpu_seconds(ours), cpu_seconds(theirs)) for _ in range(rounds)]
  ratio = statistics.median(peer / own for own, peer in pairs)
  own, other = (statistics.median(column) for column in zip(*pairs, strict=True))
  print(f"{title}: ours {own:.3f} CPU-s, transformers {other:.3f} CPU-s, ratio {ratio:.2f}")


def cpu_seconds(function: Callable[[], object]) -> float:
  """Returns the CPU time of one call, all threads together."""
  start = time.process_time()
  function()
  return time.process_time() - start


if __name__ == "__main__":
  main()
