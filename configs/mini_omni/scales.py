"""The sizes of Mini-Omni's runs: as published, for a made-up world, and for seconds.

Source: arXiv 2408.16725 (batch of 192 samples, highest rates) and the authors' answer on steps and rates in issue 112
of github.com/gpt-omni/mini-omni; warm-up as Mini-Omni2's.
"""

import dataclasses

from omni_jax.models.mini_omni import MiniOmniConfig, mini_omni
from omni_jax.models.sizes import QWEN2_0_5B
from omni_jax.prepare.voices.catalogue import cast
from omni_jax.speech.encoder_block import EncoderConfig
from omni_jax.speech.whisper import WhisperConfig, whisper_config
from omni_jax.tokens.mini_omni import MiniOmniLayout


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
  """A model with the size of its batches and runs.

  Attributes:
    model: with its encoder of speech.
    rows: of a batch.
    length: columns of a row.
    recordings: in a row.
    steps: of the base (where it is trained here) and of the three stages.
    rates: their highest learning rates.
    floor: the lowest, at both ends.
    warmup: steps.
    pad_weight: of the pads around codes.
    algorithm: of the optimizer; a model that starts from nothing learns by Muon in far fewer steps.
    voices: of answers; one in the published data. None named: all.
    codec: stage whose codes the rows hold.
  """

  model: MiniOmniConfig
  rows: int
  length: int
  recordings: int
  steps: tuple[int, int, int, int]
  rates: tuple[float, float, float, float]
  floor: float
  warmup: int
  pad_weight: float = 1.0
  algorithm: str = "adamw"
  voices: tuple[str, ...] = ()
  codec: str = "snac"


FULL = Scale(
  model=mini_omni(
    dataclasses.replace(QWEN2_0_5B, remat=True), hearing=whisper_config("small"), inputs=768, speaker=6
  ),
  rows=64,  # three samples to a row: the paper's 192
  length=2048,
  recordings=4,
  steps=(1, 20_000, 30_000, 60_000),  # the base is imported
  rates=(1e-3, 1e-3, 4e-4, 5e-5),
  floor=4e-6,
  warmup=1500,
)  # fmt: skip

_HEARING = WhisperConfig(
  num_mels=40,
  num_positions=300,  # six seconds
  encoder=EncoderConfig(
    width=128, depth=3, num_heads=4, mlp_dim=384, norm_eps=1e-5, norm_first=True, key_bias=False
  ),
)  # fmt: skip
TINY = Scale(
  model=mini_omni(
    dataclasses.replace(
      QWEN2_0_5B, width=256, depth=4, num_heads=4, num_kv_heads=2, mlp_dim=640, rope_theta=1e4, remat=True
    ),
    # A row for each digit of the made-up world's own units; `configs/mini_omni/snac.py:tiny` has seven rows of 256.
    layout=MiniOmniLayout(num_pieces=768, text_size=784, num_codes=8, codebook_size=16, num_layers=4),
    hearing=_HEARING,
    inputs=128,
    speaker=2,
  ),
  rows=4,
  length=512,
  recordings=3,
  steps=(2000, 200, 400, 1700),
  rates=(2.2e-3, 2e-3, 1.5e-3, 2e-3),
  floor=4e-6,
  warmup=30,
  algorithm="muon",
  voices=cast().answering,
  codec="tokenizer",
  pad_weight=0.1,  # decoding forces them
)
SMOKE = dataclasses.replace(TINY, rows=2, steps=(4, 4, 4, 4), warmup=1)
