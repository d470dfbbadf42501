"""SpeechGPT's published data as record sets: SpeechInstruct.

Source: arXiv 2305.11000, hub set fnlp/SpeechInstruct; units of mHuBERT's eleventh layer, 1000 classes.
Command: omni prepare --config configs/speechgpt/collections.py:speech_instruct --data /data/SI --workdir runs/gpt
Hardware: any CPUs; `--runner` for a cluster.
"""

from pathlib import Path

from omni_jax.build.collection import Collection, Member
from omni_jax.build.driver import Preparation
from omni_jax.prepare.corpora.speech_instruct import SpeechInstruct

_CROSS_MODAL, _CHAIN = "SpeechInstruct_cross_modal.jsonl", "SpeechInstruct_chain_of_modality.jsonl"


def speech_instruct(data: Path) -> Collection:
  """Both files: recognition and synthesis, the text among them, and the chain of modality."""
  return Collection(
    members=(
      _member("units/speech", data / _CROSS_MODAL, "speech"),
      _member("corpus/text", data / _CROSS_MODAL, "text"),
      _member("units/dialogue", data / _CHAIN, "dialogue"),
    )
  )


def _member(name: str, file: Path, task: str) -> Member:
  return Member(name=name, preparation=Preparation(corpus=SpeechInstruct(file=file, task=task)))
