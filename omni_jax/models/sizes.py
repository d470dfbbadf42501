"""Published decoders as configs, without extra rows: the dimensions in the `config.json` of each release.

Extending a vocabulary is `dataclasses.replace(size, vocab_size=..., extra_vocab_size=...)` (`models.emova`).
"""

import dataclasses

from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.moe import ExpertsConfig
from omni_jax.nn.rotary import Llama3Scaling


def qwen2(*, width: int, depth: int, num_heads: int, num_kv_heads: int, mlp_dim: int, tied: bool) -> DecoderConfig:
  """Returns a size of Qwen2 (arXiv 2407.10671) or Qwen2.5 (arXiv 2412.15115); hub `Qwen/Qwen2*-{size}`."""
  return DecoderConfig(
    vocab_size=151_936 if width < 3584 else 152_064,
    extra_vocab_size=0,
    width=width,
    depth=depth,
    num_heads=num_heads,
    num_kv_heads=num_kv_heads,
    head_dim=64 if width < 1024 else 128,
    mlp_dim=mlp_dim,
    rope_theta=1e6,
    norm_eps=1e-6,
    qkv_bias=True,
    tied=tied,
  )


QWEN2_0_5B = qwen2(width=896, depth=24, num_heads=14, num_kv_heads=2, mlp_dim=4864, tied=True)
QWEN2_5_0_5B = QWEN2_0_5B  # the dimensions of the older release
QWEN2_5_1_5B = qwen2(width=1536, depth=28, num_heads=12, num_kv_heads=2, mlp_dim=8960, tied=True)
QWEN2_5_3B = qwen2(width=2048, depth=36, num_heads=16, num_kv_heads=2, mlp_dim=11_008, tied=True)
QWEN2_5_7B = qwen2(width=3584, depth=28, num_heads=28, num_kv_heads=4, mlp_dim=18_944, tied=False)
QWEN2_5_14B = qwen2(width=5120, depth=48, num_heads=40, num_kv_heads=8, mlp_dim=13_824, tied=False)
QWEN2_5_32B = qwen2(width=5120, depth=64, num_heads=40, num_kv_heads=8, mlp_dim=27_648, tied=False)
QWEN2_5_72B = qwen2(width=8192, depth=80, num_heads=64, num_kv_heads=8, mlp_dim=29_568, tied=False)


def llama3_1(*, width: int, depth: int, num_heads: int, mlp_dim: int) -> DecoderConfig:
  """Returns a size of Llama 3.1 (arXiv 2407.21783); hub `meta-llama/Llama-3.1-{size}`."""
  return DecoderConfig(
    vocab_size=128_256,
    extra_vocab_size=0,
    width=width,
    depth=depth,
    num_heads=num_heads,
    num_kv_heads=8,
    head_dim=128,
    mlp_dim=mlp_dim,
    rope_theta=5e5,
    norm_eps=1e-5,
    qkv_bias=False,
    tied=False,
    rope_scaling=Llama3Scaling(
      factor=8.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_positions=8192
    ),
  )


LLAMA_3_1_8B = llama3_1(width=4096, depth=32, num_heads=32, mlp_dim=14_336)
LLAMA_3_1_70B = llama3_1(width=8192, depth=80, num_heads=64, mlp_dim=28_672)

# LLaMA (arXiv 2302.13971): every query head has its own keys; hub `huggyllama/llama-7b`, and Vicuna 7B v1.5 but for
# the eps of its norms (1e-5).
LLAMA_7B = DecoderConfig(
  vocab_size=32_000,
  extra_vocab_size=0,
  width=4096,
  depth=32,
  num_heads=32,
  num_kv_heads=32,
  head_dim=128,
  mlp_dim=11_008,
  rope_theta=1e4,
  norm_eps=1e-6,
  qkv_bias=False,
  tied=False,
)

LLAMA_13B = dataclasses.replace(LLAMA_7B, width=5120, depth=40, num_heads=40, num_kv_heads=40, mlp_dim=13_824)

# The language model of DeepSeek-VL2-tiny (arXiv 2412.10302; hub `deepseek-ai/deepseek-vl2-tiny`, language_config):
# ordinary attention, not latent attention. What the file leaves out are defaults of EMOVA's configuration_deepseek.py
# (rope base 1e4, eps 1e-6, untied, loss weight 0.001). Dropless, as its reference.
DEEPSEEK_MOE_TINY = DecoderConfig(
  vocab_size=129_280,
  extra_vocab_size=0,
  width=1280,
  depth=12,
  num_heads=10,
  num_kv_heads=10,
  head_dim=128,
  mlp_dim=6848,
  rope_theta=1e4,
  norm_eps=1e-6,
  qkv_bias=False,
  tied=False,
  experts=ExpertsConfig(num_experts=64, num_chosen=6, num_shared=2, mlp_dim=896, balance_weight=0.001),
  dense_depth=1,
)
