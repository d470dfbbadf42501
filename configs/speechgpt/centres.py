"""K-means on the tiny corpus: classes of cepstra for the first HuBERT, and units from a layer of it.

Source: HuBERT (arXiv 2106.07447, section 4.2: 100 classes of cepstra, then 500 of layer 6); SpeechGPT's units are 1000
classes of mHuBERT's layer 11.
Command: omni centres --config configs/speechgpt/centres.py:cepstra_tiny --workdir runs/tiny
Hardware and hours: 2 CPU cores, a minute each.
Expect: a stage `cepstra`, or `kmeans_tokenizer`, which `omni encode --tokenizer kmeans_tokenizer` takes.
"""

import dataclasses

from configs.speechgpt.hubert import CEPSTRA, UNITS
from omni_jax.build.centres import CentresConfig
from omni_jax.speech.kmeans import KMeansConfig


def cepstra_tiny() -> CentresConfig:
  """Returns 100 classes of cepstra, from 800 thousand frames drawn."""
  return CentresConfig(
    name="cepstra",
    sets=("speech", "dialogue"),
    split="train",
    model=CEPSTRA,
    hubert=None,
    utterances=64,
    frames=4096,
    kmeans=KMeansConfig(num_classes=CEPSTRA.num_classes, steps=200, seed_frames=8192),
  )


def units_tiny() -> CentresConfig:
  """Returns the tokenizer: 200 classes of the third layer of the stage `hubert`, from 250 thousand frames drawn."""
  return dataclasses.replace(
    cepstra_tiny(),
    name="kmeans_tokenizer",
    model=UNITS,
    hubert="hubert",
    utterances=32,
    kmeans=KMeansConfig(num_classes=UNITS.num_classes, steps=60, seed_frames=8192),
  )


def units_4096() -> CentresConfig:
  """Returns as many classes as EMOVA's tokenizers have units, for `configs/emova/compare.py`."""
  kmeans = KMeansConfig(num_classes=4096, steps=60, seed_frames=16384)
  model = dataclasses.replace(UNITS, num_classes=4096)
  return dataclasses.replace(units_tiny(), name="kmeans_4096", model=model, kmeans=kmeans)


def cepstra_smoke() -> CentresConfig:
  """Returns the same code in seconds."""
  return _short(cepstra_tiny())


def units_smoke() -> CentresConfig:
  """Returns the same code in seconds."""
  return _short(units_tiny())


def _short(config: CentresConfig) -> CentresConfig:
  kmeans = dataclasses.replace(config.kmeans, steps=3, seed_frames=2048)
  return dataclasses.replace(config, utterances=16, frames=1024, kmeans=kmeans)
