"""The sizes of SpeechGPT's runs: as published, for a made-up world, and for seconds; sources in the recipe."""

import dataclasses

from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.sizes import LLAMA_7B
from omni_jax.prepare.voices.catalogue import cast
from omni_jax.tokens.speech_gpt import PAPER, RELEASED, SAY, TRANSCRIBE, SpeechTemplate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
  """A decoder with the size of its batches and runs, each for the three stages.

  Attributes:
    base: the decoder, its tables not yet extended.
    num_units: classes of speech.
    pretrained: whether the stage `speech_gpt_base` holds the decoder's weights.
    rows: of a batch.
    length: tokens of a row.
    steps: of each stage.
    rates: highest learning rates.
    rank: of the adapters; alpha is twice that.
    block: inputs that share a scale in the 8-bit base.
    template: of the last two stages.
    algorithm: of the first two stages; a model that starts from nothing learns by Muon in far fewer steps.
    unit_levels: of units that are digits (`DecoderConfig`); classes of k-means have none.
    unit_rate: of the rows of units, relative to the rest.
    unit_weight: of units beside words in the loss.
    text: share of plain dialogues in the second stage, beside 1 each of recognition and synthesis.
    voices: of answers; SpeechGPT's is one. None named: all.
    descriptions: of recognition and of synthesis.
    requests: whether a chain's question says how to answer, in the paper's words; without, as in the released data.
  """

  base: DecoderConfig
  num_units: int
  pretrained: bool
  rows: tuple[int, int, int]
  length: tuple[int, int, int]
  steps: tuple[int, int, int]
  rates: tuple[float, float, float]
  rank: int = 8
  block: int = 64
  template: tuple[SpeechTemplate, SpeechTemplate] = (RELEASED, PAPER)
  algorithm: str = "adamw"
  unit_levels: tuple[int, ...] = ()
  unit_rate: float = 1.0
  unit_weight: float = 1.0
  text: float = 0.2
  voices: tuple[str, ...] = ()
  descriptions: tuple[tuple[str, ...], tuple[str, ...]] = (TRANSCRIBE, SAY)
  requests: bool = True


FULL = Scale(
  base=dataclasses.replace(LLAMA_7B, remat=True),
  num_units=1000,
  pretrained=True,
  rows=(768, 1536, 128),
  length=(1024, 512, 1024),
  steps=(900, 4000, 4200),
  rates=(5e-5, 2e-5, 2e-5),
)
_SHORT = (dataclasses.replace(RELEASED, system=""), dataclasses.replace(PAPER, system=""))
TINY = Scale(
  base=dataclasses.replace(
    LLAMA_7B, width=256, depth=4, num_heads=4, num_kv_heads=4, head_dim=64, mlp_dim=640, tied=True,
    remat=True,
  ),
  num_units=4096,  # of the made-up world's own tokenizer; SpeechGPT has 1000
  unit_levels=(8, 8, 8, 8),
  pretrained=False,
  rows=(4, 4, 4),
  length=(256, 256, 384),
  steps=(300, 3000, 1500),
  rates=(2.2e-3, 2.2e-3, 2e-3),
  rank=32,  # with 8 the chain's markers are not learned surely: one answer of fifty runs on
  template=_SHORT,  # the system text alone would fill half of a row, and so would the paper's requests
  algorithm="muon",
  unit_rate=1.5,
  unit_weight=0.5,
  text=0.8,  # the decoder knows no language before
  voices=cast().answering,
  descriptions=(("Write it down.",), ("Say it.",)),
  requests=False,
)  # fmt: skip
SMOKE = dataclasses.replace(TINY, rows=(2, 2, 2), steps=(4, 4, 4))
