"""EMOVA's published data as record sets: what its hub releases become, with the counts the paper states.

Source: arXiv 2409.18042 v4, figures 8 and 9 and table 4; hub sets emova-alignment-7m, emova-sft-4m,
emova-sft-speech-231k. Counts of the figures are used, since their printed shares disagree with them.
Command: omni prepare --config configs/emova/collections.py:alignment --data /data/alignment --workdir runs/full
Hardware: any CPUs with a disk for the release and half as much again; `--runner` for a cluster.
Missing from the releases: ShareGPT4V's captions (1,246.9 K: `omni prepare --source llava:...`), Cambrian's (157.6 K).
"""

from pathlib import Path

from omni_jax.build.collection import Collection, Member
from omni_jax.build.driver import Preparation
from omni_jax.prepare.corpora.conversations import READING, Reading
from omni_jax.prepare.corpora.emova import Emova

# Subsets of emova-alignment-7m and their rows.
ALIGNMENT_IMAGES = {
  **{f"allava-caption-part{part}": 114_000 for part in range(6)},
  **{f"allava-caption-zh-part{part}": 111_000 if part < 3 else 98_000 for part in range(6)},
  "sharegpt4o": 57_300,
  **{f"synthdog-en-part{part}": 125_000 for part in range(4)},
  "synthdog-zh": 100_000,
  "mmc-caption": 410_000,
  "k12": 245_000,
  "ureader-text-reading": 102_000,
}
ALIGNMENT_TEXT = {
  "magpie-pro-l3-80b-mt-llavaov": 300_000,
  "magpie-pro-l3-80b-st-llavaov": 300_000,
  "magpie-pro-qwen2-72b-st-llavaov": 300_000,
}
ALIGNMENT_SPEECH = {"librispeech-ashell2-asr-tts": 2_552_500}  # 1,276,250 utterances, each read and heard
# Subsets of emova-sft-speech-231k.
SPOKEN_TEXT = {"emova-speech-text-en": 73_658, "emova-speech-text-zh": 47_852}
SPOKEN_IMAGES = {"emova-speech-image-en": 71_474, "emova-speech-image-zh": 38_260}


def alignment(data: Path) -> Collection:
  """Stage 1: captions and pages, text, and speech of which each utterance is taken once."""
  return Collection(
    members=(
      _member("corpus/images", data, ALIGNMENT_IMAGES, reading=Reading(image_task="caption")),
      _member("corpus/text", data, ALIGNMENT_TEXT),
      _member("units/speech", data, ALIGNMENT_SPEECH, kind="asr"),
    )
  )


def instructions(data: Path) -> Collection:
  """Stage 2: emova-sft-4m, whose many subsets are told apart by what they hold.

  Speech is a tenth of the alignment's. The sets stand beside those of the alignment.
  """
  return Collection(
    members=(
      _of_tasks("corpus/instruction_images", data, ("visual_question",), 3_371_600),
      _of_tasks("corpus/instruction_text", data, ("text",), 510_200),
      _of_tasks("units/instruction_speech", data, ("speech",), 255_300),
      _of_tasks("units/dialogue", data, ("dialogue",), 121_500),
      _of_tasks("units/spoken_images", data, ("spoken_visual_question",), 109_800),
    )
  )


def spoken(data: Path) -> Collection:
  """The spoken dialogues alone, emova-sft-speech-231k, as of table 4."""
  return Collection(
    members=(_member("units/dialogue", data, SPOKEN_TEXT), _member("units/spoken_images", data, SPOKEN_IMAGES))
  )


def _member(name: str, data: Path, subsets: dict[str, int], *, kind: str = "", reading: Reading = READING) -> Member:
  corpus = Emova(root=data, subsets=tuple(subsets), kind=kind, reading=reading)
  rows = sum(subsets.values())
  return Member(name=name, preparation=Preparation(corpus=corpus), published=rows // 2 if kind else rows)


def _of_tasks(name: str, data: Path, tasks: tuple[str, ...], published: int) -> Member:
  return Member(name=name, preparation=Preparation(corpus=Emova(root=data, tasks=tasks)), published=published)
