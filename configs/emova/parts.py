"""What the runs on a released base share: the model, the shares of a mixture, the shape of a batch, the optimizer.

Shares are EMOVA's numbers of samples, in thousands (arXiv 2409.18042 v4, figures 8 and 9). Its batches are of 256, 256
and 128 samples. A packed row of 8192 tokens holds about twelve: 672 tokens each on its second stage's mixture, an
estimate (`tools/benchmark_packing.py`), as no length is published. Deviations: rows are a multiple of four, so that a
batch has an eighth more samples; answers are laid out style first, so that speech can start at once.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from configs.emova.language import LAYOUT
from omni_jax.batches.planned import PlannedBatches
from omni_jax.batches.sources import ImageSize, Source
from omni_jax.checkpoint.card import model_config
from omni_jax.core.errors import UserError
from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.emova import EmovaConfig
from omni_jax.models.language import LanguageConfig
from omni_jax.models.projectors import ProjectorConfig
from omni_jax.models.vision_encoder import QWEN2_VL_7B_VISION, VisionConfig
from omni_jax.tokens.dialogue import VOCABULARY_FILE
from omni_jax.tokens.templates import QWEN2, Template
from omni_jax.tokens.vocabulary import Vocabulary
from omni_jax.train.losses import balanced_next_token, next_token
from omni_jax.train.optimizer import Group, OptimizerConfig
from omni_jax.train.step import StepConfig

PATCHES_OF_A_LANGUAGE_MODEL = ImageSize(patch=14, merge=2, min_pixels=3136, max_pixels=3136)  # nothing is cut


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
  """How large batches and runs are, and the rates; EMOVA's own is FULL.

  Attributes:
    rows: of a batch, in each of the three stages.
    length: tokens of a row.
    image_tokens: of them, places for images.
    largest_image: tokens of one image.
    steps: of each stage.
    rates: of each stage; the first is the projector's alone.
    vision_rate: of the image tower in the last stage.
    template: of chats.
    step: how a step computes.
  """

  rows: tuple[int, int, int]
  length: int
  image_tokens: int
  largest_image: int
  steps: tuple[int, int, int]
  rates: tuple[float, float, float]
  vision_rate: float
  template: Template
  step: StepConfig


FULL = Scale(
  rows=(24, 24, 12),  # 288, 288 and 144 samples
  length=8192,
  image_tokens=6144,
  largest_image=4096,
  steps=(1_940, 26_300, 30_300),  # one pass over 558,000, 7,584,000 and 4,368,400 samples
  rates=(1e-3, 2e-5, 2e-5),
  vision_rate=2e-6,
  template=QWEN2,
  step=StepConfig(compute_dtype="bfloat16"),  # as EMOVA; parameters and moments stay float32
)


def on(decoder: DecoderConfig, workdir: Path, *, vision: VisionConfig = QWEN2_VL_7B_VISION) -> EmovaConfig:
  """Returns the whole model on a released decoder, its tables as the working folder's vocabulary has them."""
  ids = vocabulary(workdir)
  return EmovaConfig(
    decoder=dataclasses.replace(decoder, vocab_size=ids.text_size, extra_vocab_size=ids.extra_size, remat=True),
    vision=dataclasses.replace(vision, remat=True),
    projector=ProjectorConfig(inputs=vision.out_width, outputs=decoder.width),
    image_token=ids.control("image"),
  )


def imported(workdir: Path) -> EmovaConfig:
  """Returns the model of the stage `base`, whatever was imported there."""
  model = model_config(workdir / "stages" / "base")
  if not isinstance(model, EmovaConfig) or not isinstance(model.vision, VisionConfig):
    raise UserError(
      f"the stage holds a {type(model).__name__}",
      where=workdir / "stages" / "base",
      rule="these stages train a model with a native-resolution image tower",
      remedy="import the base with --vision",
    )
  return on(model.decoder, workdir, vision=model.vision)


def instructions(workdir: Path, *, images: bool) -> tuple[Source, ...]:
  """Returns what tuning reads; without images, only what a language model can."""
  corpus, units = workdir / "corpus", workdir / "units"
  seen = (
    Source(folder=corpus / "images", split="train", view="image_text", weight=3371.6),
    Source(folder=units / "spoken_images", split="train", view="dialogue", weight=109.8, style_dropout=0.1),
  )
  return (
    Source(folder=corpus / "text", split="train", view="text", weight=510.2),
    Source(folder=units / "speech", split="train", view="recognise", weight=127.7, style_dropout=0.1),
    Source(folder=units / "speech", split="train", view="synthesise", weight=127.7),
    Source(folder=units / "dialogue", split="train", view="dialogue", weight=121.5, style_dropout=0.1),
    *(seen if images else ()),
  )


def batches(
  workdir: Path, *, model: EmovaConfig | LanguageConfig, scale: Scale, sources: tuple[Source, ...], stage: int
) -> PlannedBatches:
  """Returns the planned batches of a stage (0, 1 or 2), images cut as the model's tower wants them."""
  vision = model.vision if isinstance(model, EmovaConfig) and isinstance(model.vision, VisionConfig) else None
  images, patches = PATCHES_OF_A_LANGUAGE_MODEL, 0
  if vision is not None:
    cell = (vision.patch * vision.merge) ** 2
    images = ImageSize(
      patch=vision.patch, merge=vision.merge, min_pixels=4 * cell, max_pixels=scale.largest_image * cell
    )
    patches = scale.image_tokens * vision.merge**2
  return PlannedBatches(
    text=workdir / "text",
    vocabulary_id=vocabulary(workdir).fingerprint(),
    template=scale.template,
    layout=LAYOUT,
    sources=sources,
    rows=scale.rows[stage],
    length=scale.length,
    patches=patches,
    images=images,
    quarantine=workdir / "quarantine.jsonl",
    seed=42 + stage,
    branched=False,  # no view of these sources has several answers to one beginning
    plans=workdir / "plans",
  )


def optimizer(learning_rate: float, *, steps: int, groups: tuple[Group, ...]) -> OptimizerConfig:
  """Returns AdamW with torch's defaults, no decay, clip 1, 3 % warm-up and a cosine to 0."""
  return OptimizerConfig(
    learning_rate=learning_rate, warmup_steps=max(1, steps * 3 // 100), weight_decay=0.0, clip_norm=1.0, groups=groups
  )


def loss_of(model: EmovaConfig | LanguageConfig) -> Callable:
  """Returns the cross entropy, with the balance of experts where there are any."""
  return next_token if model.decoder.experts is None else balanced_next_token


def vocabulary(workdir: Path) -> Vocabulary:
  """Returns the ids of the working folder."""
  return Vocabulary.load(workdir / "text" / VOCABULARY_FILE)
