"""The HuBERT behind SpeechGPT's units, in a size for a CPU: masked frames -> their classes.

Source: HuBERT (arXiv 2106.07447), which SpeechGPT (arXiv 2305.11000) reads units from as mHuBERT base, layer 11.
Commands, in this order:
  omni centres --config configs/speechgpt/centres.py:cepstra_tiny --workdir runs/tiny
  omni train --config configs/speechgpt/hubert.py:tiny --workdir runs/tiny
  omni centres --config configs/speechgpt/centres.py:units_tiny --workdir runs/tiny
and `second_tiny` in the end, HuBERT's second iteration, learns from the units of the first.
Hardware and hours: `tiny` one CPU core, about 10 minutes.
Expect: the loss of masked frames 3.2 nats, 18 % of them right among 100 classes (`tiny`).
"""

from pathlib import Path

from omni_jax.batches.utterances import Bucket, UtteranceBatches
from omni_jax.checkpoint.initialise import Start
from omni_jax.speech.encoder_block import EncoderConfig
from omni_jax.speech.hubert import HubertConfig, StemLayer
from omni_jax.speech.hubert_pretraining import HubertPretrainingConfig
from omni_jax.speech.kmeans_tokenizer import KMeansTokenizerConfig
from omni_jax.speech.mel import MelConfig
from omni_jax.speech.mfcc import MfccLabellerConfig
from omni_jax.train.loop import Run
from omni_jax.train.masked_prediction import MaskedPrediction
from omni_jax.train.optimizer import Group, OptimizerConfig

HUBERT = HubertConfig(
  sample_rate=16000,
  stem=(
    StemLayer(width=48, taps=10, stride=5),
    *(StemLayer(width=96, taps=3, stride=2),) * 4,
    *(StemLayer(width=128, taps=2, stride=2),) * 2,
  ),
  stem_bias=False,
  stem_norm_each=False,
  encoder=EncoderConfig(width=192, depth=4, num_heads=4, mlp_dim=512, norm_eps=1e-5, norm_first=True),
  position_taps=32,
  position_groups=4,
)
# One hop for each frame of the HuBERT; 25 ms of sound in a spectrum.
CEPSTRA = MfccLabellerConfig(
  mel=MelConfig(
    sample_rate=16000, hop_samples=320, window_samples=400, fft_size=1024, num_mels=40, low_hz=20.0, high_hz=8000.0,
    floor=1e-4,
  ),
  num_coefficients=13,
  num_classes=100,
)  # fmt: skip
UNITS = KMeansTokenizerConfig(hubert=HUBERT, layer=3, num_classes=200, longest_seconds=100.0)


def tiny(workdir: Path) -> Run:
  """The first iteration: labels are classes of cepstra."""
  return _run(workdir, steps=1000)


def smoke(workdir: Path) -> Run:
  """The same code in seconds; it learns little."""
  return _run(workdir, steps=20)


def second_tiny(workdir: Path) -> Run:
  """The second iteration: labels are classes of a layer of the first."""
  return _run(workdir, steps=2000, name="hubert_second", labeller=UNITS, labels="kmeans_tokenizer")


def _run(
  workdir: Path,
  *,
  steps: int,
  name: str = "hubert",
  labeller: MfccLabellerConfig | KMeansTokenizerConfig = CEPSTRA,
  labels: str = "cepstra",
) -> Run:
  data = UtteranceBatches(
    sets=(workdir / "corpus" / "speech", workdir / "corpus" / "dialogue"),
    split="train",
    phones=workdir / "corpus" / "phones.json",
    num_phones=64,
    max_phones=64,
    buckets=(Bucket(seconds=2.1, rows=12), Bucket(seconds=3.1, rows=8), Bucket(seconds=6.0, rows=4)),
    seed=3,
  )
  return Run(
    name=name,
    model=HubertPretrainingConfig(hubert=HUBERT, labeller=labeller, class_width=64, temperature=0.1),
    loss=MaskedPrediction(stem_rate=1.0, penalty=1.0),
    optimizer=OptimizerConfig(
      algorithm="muon", orthogonal_steps=3, learning_rate=2e-3, warmup_steps=min(100, steps), schedule="cosine",
      weight_decay=0.01, clip_norm=1.0, beta1=0.9, beta2=0.98, eps=1e-6, groups=(Group("labeller", 0.0),),
    ),
    data=data,
    steps=steps,
    start=(Start(workdir / "stages" / labels),),
  )  # fmt: skip
