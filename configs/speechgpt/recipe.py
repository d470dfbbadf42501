"""SpeechGPT's three stages on any decoder: units alone, cross-modal instructions, chain of modality by adapters.

Source: arXiv 2305.11000 and scripts/*.sh of github.com/0nutation/SpeechGPT: AdamW as torch has it, no decay; lines of
units in rows of 1024, 768 of them, at 5e-5 falling from the start; cross-modal rows of 512, batch 1536, 2e-5, cosine
with 3 % warm-up; chain of modality rows of 1024, LoRA of rank 8 and alpha 16 on queries and values over an 8-bit base,
batch 128, 2e-5. Steps are the paper's (900, 4,000, 4,200) as notes on it tell them. Deviation: the first stage's rate
falls by a cosine, not by a line. Ours: the shares of text dialogues and of the four chains, which are not published.
Before the full stages: omni vocabulary --base LLAMA --speech-gpt --codebook-size 1000 --workdir DIR
  and omni convert import --stage speech_gpt_base --source LLAMA --workdir DIR
"""

import dataclasses
from pathlib import Path

from configs.speechgpt.scales import Scale
from omni_jax.batches.sources import Source
from omni_jax.batches.speech_instruct import InstructBatches, Kind
from omni_jax.checkpoint.initialise import Start
from omni_jax.models.speech_gpt import speech_gpt
from omni_jax.nn.lora import AdaptedConfig
from omni_jax.tokens.extension import load_tokenizer
from omni_jax.tokens.speech_gpt import speech_gpt_vocabulary
from omni_jax.train.loop import Run
from omni_jax.train.losses import Dropping, next_token
from omni_jax.train.optimizer import Group, OptimizerConfig

BASE, UNITS, CROSS, CHAIN = "speech_gpt_base", "speech_gpt_units", "speech_gpt_cross", "speech_gpt"


def units(workdir: Path, *, scale: Scale) -> Run:
  """Returns stage 1, modality adaptation: every line is units, every token is learned, everything learns."""
  sources = tuple(_source(workdir, scale, name, "synthesise", 1.0) for name in ("speech", "dialogue"))
  start = (Start(workdir / "stages" / BASE),) if scale.pretrained else ()
  return _run(workdir, scale=scale, stage=0, name=UNITS, sources=sources, start=start)


def cross_modal(workdir: Path, *, scale: Scale) -> Run:
  """Returns stage 2: recognition, synthesis and plain dialogues, everything learns.

  Both sides of a spoken dialogue are speech with its text like any other: adapters alone do not learn later how users
  ask and how answers sound.
  """
  sources = (
    _source(workdir, scale, "speech", "recognise", 0.6),
    _source(workdir, scale, "dialogue", "recognise", 0.4),
    _source(workdir, scale, "speech", "synthesise", 0.6, voices=scale.voices),
    _source(workdir, scale, "dialogue", "synthesise", 0.4, voices=scale.voices),
    Source(folder=workdir / "corpus" / "text", split="train", view="text", weight=scale.text),
  )
  return _run(workdir, scale=scale, stage=1, name=CROSS, sources=sources, start=(Start(workdir / "stages" / UNITS),))


def chain(workdir: Path, *, scale: Scale) -> Run:
  """Returns stage 3: all four chains of modality, by adapters on queries and values; tables and base stay."""
  shares = {"dialogue": 0.7, "written_reply": 0.1, "spoken_reply": 0.1, "text": 0.1}
  if not scale.requests:  # speech then asks for speech, text for text
    shares = {"dialogue": 0.9, "text": 0.1}
  run = _run(
    workdir,
    scale=scale,
    stage=2,
    name=CHAIN,
    sources=tuple(
      _source(workdir, scale, "dialogue", view, share, voices=scale.voices) for view, share in shares.items()
    ),
    start=(Start(workdir / "stages" / CROSS),),
  )
  adapted = AdaptedConfig(
    base=run.model,
    targets=(r"decoder\.blocks\.attention\.(query|value)\.weight",),
    rank=scale.rank,
    alpha=2.0 * scale.rank,
    dropout=0.05,
    bits="int8",
    block=scale.block,
  )
  groups = (Group(".*", 0.0), Group("pairs", 1.0))
  optimizer = dataclasses.replace(run.optimizer, algorithm="adamw", groups=groups)
  return dataclasses.replace(run, model=adapted, loss=Dropping(loss=next_token), optimizer=optimizer)


def _run(
  workdir: Path, *, scale: Scale, stage: int, name: str, sources: tuple[Source, ...], start: tuple[Start, ...]
) -> Run:
  vocabulary = speech_gpt_vocabulary(load_tokenizer(workdir / "text"), num_units=scale.num_units)
  steps = scale.steps[stage]
  return Run(
    name=name,
    model=speech_gpt(scale.base, vocabulary, unit_levels=scale.unit_levels),
    loss=next_token,
    optimizer=OptimizerConfig(
      algorithm=scale.algorithm,
      orthogonal_steps=3,
      learning_rate=scale.rates[stage],
      warmup_steps=0 if stage == 0 and scale.pretrained else max(1, steps * 3 // 100),
      clip_norm=1.0,
      groups=(Group(r"decoder\.embed\.extra", scale.unit_rate),),
    ),
    data=InstructBatches(
      text=workdir / "text",
      kind=(Kind.LINES, Kind.CROSS_MODAL, Kind.CHAIN)[stage],
      template=scale.template[max(stage - 1, 0)],
      sources=sources,
      rows=scale.rows[stage],
      length=scale.length[stage],
      quarantine=workdir / "quarantine.jsonl",
      seed=30 + stage,
      num_units=scale.num_units,
      descriptions=scale.descriptions,
      requests=scale.requests,
    ),
    steps=steps,
    start=start,
  )


def _source(
  workdir: Path, scale: Scale, name: str, view: str, weight: float, *, voices: tuple[str, ...] = ()
) -> Source:
  return Source(
    folder=workdir / "units" / name, split="train", view=view, weight=weight, voices=voices,
    unit_weight=scale.unit_weight,
  )  # fmt: skip
