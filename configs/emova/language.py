"""What the stages of the tiny language model share: its size, its view of the data, the shape of a batch.

Sizes are chosen so that a step of 1024 tokens with its images takes about 0.4 s on one CPU core. The layout of an
answer is 8 text tokens, then 12 units (nearly a second of speech), and so on, so that the text stays ahead of the
voice.
"""

import dataclasses
from pathlib import Path

from configs.emova.vocabulary import TEXT_SIZE
from omni_jax.batches.sequences import SequenceBatches
from omni_jax.batches.sources import ImageSize, Source
from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.emova import EmovaConfig
from omni_jax.models.projectors import ProjectorConfig
from omni_jax.models.vision_encoder import VisionConfig
from omni_jax.tokens.answers import NativeLayout
from omni_jax.tokens.dialogue import VOCABULARY_FILE
from omni_jax.tokens.templates import TINY
from omni_jax.tokens.vocabulary import Vocabulary, control_ids, extra_size
from omni_jax.train.optimizer import Group, OptimizerConfig

LAYOUT = NativeLayout(text_chunk=8, unit_chunk=12)
# A cell of 32 pixels is about as large as an object, so that one image token knows its shape and its color together.
IMAGES = ImageSize(patch=16, merge=2, min_pixels=4 * 32 * 32, max_pixels=8 * 32 * 32, window=32)

_DECODER = DecoderConfig(
  vocab_size=TEXT_SIZE,
  extra_vocab_size=0,
  width=256,
  depth=4,
  num_heads=4,
  num_kv_heads=2,
  head_dim=64,
  mlp_dim=640,
  rope_theta=10_000.0,
  norm_eps=1e-6,
  qkv_bias=True,
  tied=True,
  remat=True,  # on a CPU a tenth faster than keeping everything
)
_VISION = VisionConfig(
  patch=IMAGES.patch,
  temporal_patch=1,
  merge=IMAGES.merge,
  width=128,
  depth=4,
  num_heads=4,
  mlp_dim=384,
  out_width=256,
  remat=True,
)
TEXT_AND_IMAGES = EmovaConfig(
  decoder=_DECODER,
  vision=_VISION,
  projector=ProjectorConfig(inputs=256, outputs=256),
  image_token=control_ids(TEXT_SIZE)["image"],
)
# The vocabulary grows here: rows for units and styles behind the text rows.
ALL_MODALITIES = dataclasses.replace(
  TEXT_AND_IMAGES,
  decoder=dataclasses.replace(_DECODER, extra_vocab_size=extra_size(4096), unit_levels=(8, 8, 8, 8)),
)

# Unit rows start as sums of digit curves; at a tenth of the rate units are learned late (docs/decisions.md).
UNIT_ROWS = Group(pattern=r"decoder\.embed\.extra", scale=1.5)


def batches(workdir: Path, *, sources: tuple[Source, ...], images: int, seed: int) -> SequenceBatches:
  """Returns the packed batches of a stage: 4 rows of 256 tokens and up to `images` images each."""
  return SequenceBatches(
    text=workdir / "text",
    vocabulary_id=Vocabulary.load(workdir / "text" / VOCABULARY_FILE).fingerprint(),
    template=TINY,
    layout=LAYOUT,
    sources=sources,
    rows=4,
    length=256,
    patches=images * IMAGES.window,
    images=IMAGES,
    quarantine=workdir / "quarantine.jsonl",
    cache_bytes=1 << 30,
    seed=seed,
  )


def optimizer(learning_rate: float, *, steps: int, groups: tuple[Group, ...] = ()) -> OptimizerConfig:
  """Returns EMOVA's schedule (cosine, 3 % warm-up, clip 1, no decay) for a few hundred steps from nothing.

  Deviation: EMOVA tunes pretrained weights with AdamW; here Muon, which learns pictures in far fewer steps
  (docs/decisions.md).
  """
  return OptimizerConfig(
    algorithm="muon",
    orthogonal_steps=3,
    learning_rate=learning_rate,
    warmup_steps=max(1, steps * 3 // 100),
    weight_decay=0.0,
    clip_norm=1.0,
    beta1=0.9,
    beta2=0.95,
    groups=groups,
  )
