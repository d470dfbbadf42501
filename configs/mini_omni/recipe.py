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

from pathlib import Path

from configs.mini_omni.scales import Scale
from omni_jax.batches.grids import GridBatches
from omni_jax.batches.sources import Source
from omni_jax.checkpoint.initialise import Start
from omni_jax.tokens.mini_omni import TASKS
from omni_jax.train.loop import Run
from omni_jax.train.optimizer import Group, OptimizerConfig
from omni_jax.train.row_losses import RowLoss

HEARING = "mini_omni_hearing"
BASE, ADAPTERS, LANGUAGE, OMNI = "mini_omni_base", "mini_omni_adapters", "mini_omni_language", "mini_omni"


def base(workdir: Path, *, scale: Scale) -> Run:
  """Returns the run that a made-up world needs first: a decoder that writes and an encoder that hears, from nothing.

  Released weights take its place otherwise.
  """
  sources = (*_recognised(workdir), _heard(workdir, "dialogue", "text", 0.3))
  heard = (Start(workdir / "stages" / HEARING, include="hearing"),)
  return _run(workdir, scale=scale, stage=0, name=BASE, sources=sources, groups=(Group("hearing", 0.3),), start=heard)


def adapters(workdir: Path, *, scale: Scale) -> Run:
  """Returns stage 1, modality alignment: both adapters learn, to hear and to speak; nothing else does."""
  sources = (_heard(workdir, "speech", "recognise", 1.0), _coded(workdir, scale, "speech", "synthesise", 1.0))
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
    *_recognised(workdir),
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
    *_recognised(workdir),
    _heard(workdir, "dialogue", "written_reply", 0.5),
    _heard(workdir, "dialogue", "text", 0.5),
    _coded(workdir, scale, "dialogue", "dialogue", 1.0),
    _coded(workdir, scale, "dialogue", "spoken_reply", 1.0),
    _coded(workdir, scale, "speech", "synthesise", 1.0),
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
      algorithm=scale.algorithm,
      orthogonal_steps=3,
      learning_rate=scale.rates[stage],
      floor=scale.floor,
      warmup_steps=scale.warmup,
      clip_norm=1.0,
      groups=groups,
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
      codec=scale.codec,
    ),
    steps=scale.steps[stage],
    start=start,
  )


def _recognised(workdir: Path) -> tuple[Source, ...]:
  """Returns what is written down: read sentences, and questions as users ask them."""
  return _heard(workdir, "speech", "recognise", 0.7), _heard(workdir, "dialogue", "recognise", 0.3)


def _heard(workdir: Path, name: str, view: str, weight: float) -> Source:
  return Source(folder=workdir / "corpus" / name, split="train", view=view, weight=weight)


def _coded(workdir: Path, scale: Scale, name: str, view: str, weight: float) -> Source:
  return Source(folder=workdir / "codes" / name, split="train", view=view, weight=weight, voices=scale.voices)
