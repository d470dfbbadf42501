"""Any language model can talk: Mini-Omni's stages on a Llama, whose tables are two and whose queries have no offset.

Source: arXiv 2408.16725, section 3 ("any model can talk"); the recipe and where its figures are from:
`configs/mini_omni/recipe.py`. Only the decoder of the sizes in `configs/mini_omni/scales.py` is another; stages have
the same names, so a Llama has a working folder of its own.
Command: omni train --config configs/mini_omni/llama.py:omni --workdir runs/llama   (before it base, adapters, language)
  full: omni convert import --stage mini_omni_base --source Llama-3.1-8B --hearing whisper-small
  --config configs/mini_omni/llama.py:full_adapters --workdir DIR, with the tokenizer of Llama in DIR/text.
Hardware and hours: the tiny stages are for 2 CPU cores, as Qwen's; full was not run.
Expect: as in `omni.py`; `tests/test_mini_omni_runs.py` takes a few steps and sees all eight rows learn.
"""

import dataclasses
from pathlib import Path

from configs.mini_omni import recipe, scales
from omni_jax.models.mini_omni import mini_omni
from omni_jax.models.sizes import LLAMA_3_1_8B
from omni_jax.speech.whisper import whisper_config
from omni_jax.tokens.mini_omni import MiniOmniLayout
from omni_jax.train.loop import Run

_PIECES = 128_256  # of Llama 3.1's tokenizer
_LIKE_LLAMA = {"tied": False, "qkv_bias": False, "norm_eps": 1e-5}


def _tiny() -> scales.Scale:
  model = scales.TINY.model
  decoder = dataclasses.replace(model.decoder, rope_theta=5e5, **_LIKE_LLAMA)
  return dataclasses.replace(scales.TINY, model=dataclasses.replace(model, decoder=decoder))


def _full() -> scales.Scale:
  decoder = dataclasses.replace(LLAMA_3_1_8B, remat=True)
  layout = MiniOmniLayout(num_pieces=_PIECES, text_size=_PIECES + 64)
  return dataclasses.replace(
    scales.FULL, model=mini_omni(decoder, layout=layout, hearing=whisper_config("small"), inputs=768, speaker=6)
  )


def base(workdir: Path) -> Run:
  """The made-up world, from nothing."""
  return recipe.base(workdir, scale=_tiny())


def adapters(workdir: Path) -> Run:
  """Stage 1."""
  return recipe.adapters(workdir, scale=_tiny())


def language(workdir: Path) -> Run:
  """Stage 2."""
  return recipe.language(workdir, scale=_tiny())


def omni(workdir: Path) -> Run:
  """Stage 3."""
  return recipe.omni(workdir, scale=_tiny())


def full_adapters(workdir: Path) -> Run:
  """Stage 1 on Llama 3.1 8B."""
  return recipe.adapters(workdir, scale=_full())


def full_language(workdir: Path) -> Run:
  """Stage 2 on Llama 3.1 8B."""
  return recipe.language(workdir, scale=_full())


def full_omni(workdir: Path) -> Run:
  """Stage 3 on Llama 3.1 8B."""
  return recipe.omni(workdir, scale=_full())
