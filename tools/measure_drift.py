"""What half precision changes in a decoder, ours beside the peer's (transformers on torch), with the same weights.

Random decoders of each kind run in float32 and in bfloat16 on the CPU. For every kind and pair this prints the largest
and the mean difference of the logits, relative to the largest logit, and at how many positions the best token agrees.
The last line of a kind is the yardstick: how far the peer's own bfloat16 is from its float32. Transformers has no
decoder with our experts, so that kind is compared with itself only.

    python tools/measure_drift.py [--width 256] [--depth 8] [--length 256]
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from omni_jax.convert.language import export_language
from omni_jax.models.decoder import Decoder, DecoderConfig
from omni_jax.models.moe import ExpertsConfig
from omni_jax.models.sizes import LLAMA_3_1_8B

VOCABULARY, ROWS = 4096, 2


def main() -> None:
  """Prints one block of lines for each kind of decoder."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--width", type=int, default=256)
  parser.add_argument("--depth", type=int, default=8)
  parser.add_argument("--length", type=int, default=256)
  arguments = parser.parse_args()
  tokens = np.random.default_rng(0).integers(0, VOCABULARY, (ROWS, arguments.length))
  for kind, config in kinds(width=arguments.width, depth=arguments.depth).items():
    model = config.make(key=jax.random.key(0))
    logits = {"ours float32": ours(model, tokens, "float32"), "ours bfloat16": ours(model, tokens, "bfloat16")}
    if config.experts is None:
      logits |= {f"peer {dtype}": peer(model, tokens, dtype) for dtype in ("float32", "bfloat16")}
    pairs = [
      ("ours float32", "peer float32"),
      ("ours bfloat16", "ours float32"),
      ("ours bfloat16", "peer bfloat16"),
      ("peer bfloat16", "peer float32"),
    ]
    for one, other in pairs:
      if one in logits and other in logits:
        print(f"{kind:22} {one:13} - {other:13} {compare(logits[one], logits[other])}")


def kinds(*, width: int, depth: int) -> dict[str, DecoderConfig]:
  """Returns a decoder of every kind, of one size."""
  qwen = DecoderConfig(
    vocab_size=VOCABULARY, extra_vocab_size=0, width=width, depth=depth, num_heads=7, num_kv_heads=1,
    head_dim=width // 8, mlp_dim=width * 5 // 2, rope_theta=1e6, norm_eps=1e-6, qkv_bias=True, tied=True,
  )  # fmt: skip
  llama = dataclasses.replace(
    qwen, num_heads=8, num_kv_heads=2, qkv_bias=False, tied=False, rope_theta=5e5, norm_eps=1e-5,
    rope_scaling=LLAMA_3_1_8B.rope_scaling,
  )  # fmt: skip
  experts = ExpertsConfig(num_experts=16, num_chosen=4, num_shared=2, mlp_dim=width // 2, balance_weight=0.001)
  return {
    "Qwen2, tied, 7:1": qwen,
    "Llama 3.1, untied, 4:1": llama,
    "DeepSeekMoE, 4 of 16": dataclasses.replace(llama, num_kv_heads=8, experts=experts, dense_depth=1),
  }


def ours(model: Decoder, tokens: np.ndarray, dtype: str) -> np.ndarray:
  """Returns our logits, computed in `dtype`."""
  cast = jax.tree.map(lambda leaf: leaf.astype(dtype), model)
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  run = jax.jit(lambda model, *inputs: model(*inputs))
  return np.asarray(run(cast, jnp.asarray(tokens), positions, jnp.ones(tokens.shape, jnp.int32)).astype(jnp.float32))


def peer(model: Decoder, tokens: np.ndarray, dtype: str) -> np.ndarray:
  """Returns the logits of the peer, which loads the folder that we export, computed in `dtype`."""
  with tempfile.TemporaryDirectory() as folder:
    export_language(model, Path(folder))
    twin = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
  with torch.no_grad():
    return twin(torch.from_numpy(tokens)).logits.float().numpy()


def compare(found: np.ndarray, expected: np.ndarray) -> str:
  """Returns the differences of two logits [B, T, V] in words."""
  apart, scale = np.abs(found - expected), np.abs(expected).max()
  same = (found.argmax(-1) == expected.argmax(-1)).mean()
  return f"largest {apart.max() / scale:.1e}  mean {apart.mean() / scale:.1e}  same best token {same:.1%}"


if __name__ == "__main__":
  main()
