"""Mini-Omni's published data as a record set: VoiceAssistant-400K.

Source: arXiv 2408.16725, hub set gpt-omni/VoiceAssistant-400K (325 parquet files, 219 GB; 470,054 rows).
Command: omni prepare --config configs/mini_omni/collections.py:voice_assistant --data /data/VA --workdir runs/mini
Hardware: any CPUs; `--runner` for a cluster.
"""

from pathlib import Path

from omni_jax.build.collection import Collection, Member
from omni_jax.build.driver import Preparation
from omni_jax.prepare.corpora.voice_assistant import VoiceAssistant


def voice_assistant(data: Path) -> Collection:
  """Spoken questions, written answers and their SNAC codes; rounds whose codes were cut are put aside, up to 5 %."""
  preparation = Preparation(corpus=VoiceAssistant(path=data), max_rejected=0.05)
  return Collection(members=(Member(name="units/dialogue", preparation=preparation, published=470_054),))
