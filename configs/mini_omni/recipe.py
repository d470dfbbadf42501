"""Mini-Omni's stages on any decoder and any Whisper: what is trained, on what, how fast.

Source: arXiv 2408.16725, section 3 and table 1, and the authors' answers on github.com/gpt-omni/mini-omni (issues 61,
101, 112, 116, 123): adapters only, then the language model without them and text out only, then everything but the
encoder; cosine from and to 4e-6; recognition and questions about one to one. No training code was ever released. Ours,
since nothing says it: AdamW with torch's betas, clip 1, no decay, all eight rows weigh the same (as in SLAM-LLM's
public reproduction), new rows near the mean of the old, warm-up as Mini-Omni2's (1,500 steps).

Before the full stages: omni convert import --stage mini_omni_base --source Qwen2-0.5B --hearing whisper-small
  --config configs/mini_omni/adapters.py:full --workdir DIR, with the tokenizer of Qwen2 in DIR/text.
Records: sound in `corpus/`, sound with the codec's codes in `codes/` (`omni encode --codec STAGE`).
"""

import dataclasses
from pathlib import Path

from omni_jax.batches.grids import GridBatches
from omni_jax.batches.sources import Source
from omni_jax.checkpoint.initialise import Start
from omni_jax.models.mini_omni import MiniOmniConfig, mini_omni
from omni_jax.models.sizes import QWEN2_0_5B
from omni_jax.speech.encoder_block import EncoderConfig
from omni_jax.speech.whisper import WhisperConfig, whisper_config
from omni_jax.tokens.mini_omni import TASKS, MiniOmniLayout
from omni_jax.train.loop import Run
from omni_jax.train.optimizer import Group, OptimizerConfig
from omni_jax.train.row_losses import RowLoss

BASE, ADAPTERS, LANGUAGE, OMNI = "mini_omni_base", "mini_omni_adapters", "mini_omni_language", "mini_omni"


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
    layout=MiniOmniLayout(num_pieces=768, text_size=784, num_codes=256, codebook_size=272),
    hearing=_HEARING,
    inputs=128,
    speaker=2,
  ),
  rows=4,
  length=512,
  recordings=3,
  steps=(1500, 200, 400, 900),
  rates=(1.5e-3, 1e-3, 1e-3, 1e-3),
  floor=4e-6,
  warmup=30,
  pad_weight=0.1,  # decoding forces them
)
SMOKE = dataclasses.replace(TINY, rows=2, steps=(4, 4, 4, 4), warmup=1)


def base(workdir: Path, *, scale: Scale) -> Run:
  """Returns the run that a made-up world needs first: a decoder that writes and an encoder that hears, from nothing.

  Released weights take its place otherwise.
  """
  sources = (_heard(workdir, "speech", "recognise", 0.7), _heard(workdir, "dialogue", "text", 0.3))
  return _run(workdir, scale=scale, stage=0, name=BASE, sources=sources, groups=(), start=())


def adapters(workdir: Path, *, scale: Scale) -> Run:
  """Returns stage 1, modality alignment: both adapters learn, to hear and to speak; nothing else does."""
  sources = (_heard(workdir, "speech", "recognise", 1.0), _coded(workdir, "speech", "synthesise", 1.0))
  return _run(
    workdir,
    scale=scale,
    stage=1,
    name=ADAPTERS,
    sources=sources if scale.model.speaker_depth else sources[:1],
    groups=(Group("decoder|hearing", 0.0),),
    start=(Start(workdir / "stages" / BASE, include="decoder|hearing"),),
  )


def language(workdir: Path, *, scale: Scale) -> Run:
  """Returns stage 2, adaption: the language model learns to answer what it hears, in text; the adapters rest."""
  sources = (
    _heard(workdir, "speech", "recognise", 1.0),
    _heard(workdir, "dialogue", "written_reply", 0.5),
    _heard(workdir, "dialogue", "text", 0.5),
  )
  rest = "hearing|adapter|speaker" if scale.model.speaker_depth else "hearing|adapter"
  return _run(
    workdir,
    scale=scale,
    stage=2,
    name=LANGUAGE,
    sources=sources,
    groups=(Group(rest, 0.0),),
    start=(Start(workdir / "stages" / ADAPTERS),),
  )


def omni(workdir: Path, *, scale: Scale) -> Run:
  """Returns stage 3, multi-modal fine-tuning: everything but the encoder learns, on all tasks."""
  sources = (
    _heard(workdir, "speech", "recognise", 1.0),
    _heard(workdir, "dialogue", "written_reply", 0.5),
    _heard(workdir, "dialogue", "text", 0.5),
    _coded(workdir, "dialogue", "dialogue", 1.0),
    _coded(workdir, "dialogue", "spoken_reply", 1.0),
    _coded(workdir, "speech", "synthesise", 1.0),
  )
  return _run(
    workdir,
    scale=scale,
    stage=3,
    name=OMNI,
    sources=sources,
    groups=(Group("hearing", 0.0),),
    start=(Start(workdir / "stages" / LANGUAGE),),
  )


def _run(
  workdir: Path,
  *,
  scale: Scale,
  stage: int,
  name: str,
  sources: tuple[Source, ...],
  groups: tuple[Group, ...],
  start: tuple[Start, ...],
) -> Run:
  return Run(
    name=name,
    model=scale.model,
    loss=RowLoss(kinds=TASKS),
    optimizer=OptimizerConfig(
      learning_rate=scale.rates[stage], floor=scale.floor, warmup_steps=scale.warmup, clip_norm=1.0, groups=groups
    ),
    data=GridBatches(
      text=workdir / "text",
      layout=scale.model.layout,
      hearing=scale.model.hearing.layout,
      sources=sources,
      rows=scale.rows,
      length=scale.length,
      recordings=scale.recordings,
      quarantine=workdir / "quarantine.jsonl",
      seed=20 + stage,
      pad_weight=scale.pad_weight,
    ),
    steps=scale.steps[stage],
    start=start,
  )


def _heard(workdir: Path, name: str, view: str, weight: float) -> Source:
  return Source(folder=workdir / "corpus" / name, split="train", view=view, weight=weight)


def _coded(workdir: Path, name: str, view: str, weight: float) -> Source:
  return Source(folder=workdir / "codes" / name, split="train", view=view, weight=weight)
