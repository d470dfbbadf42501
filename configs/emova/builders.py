"""What is made of corpora that lack what a stage needs: spoken dialogues, pictures to read, words and captions.

Source: arXiv 2409.18042 v4, its speech instruction data: dialogues without what cannot be said, formatting stripped,
styles of both sides assigned by GPT-4o from the text, said by one of 39 speakers of CosyVoice and Azure. Deviations: a
rule assigns styles, and the voices are those of espeak-ng and flite, or the trained assistant's.
Command: omni prepare --source llava:/data/sharegpt.json --name spoken --workdir runs/full --max-rejected 0.9
  --steps configs/emova/builders.py:spoken_dialogue, then: omni units --source records:runs/full/corpus/spoken
  --name dialogue --workdir runs/full
Hardware and hours: any CPUs; 25 ms of one core for a second of sound (espeak-ng), a trained assistant as `omni say`.
"""

from pathlib import Path

from omni_jax.build.driver import Steps
from omni_jax.build.renderings import MANDARIN_REQUESTS, Rendered
from omni_jax.build.speaking import Cleaned, Spoken, english_voices, mandarin_voices
from omni_jax.build.styling import WordJudge
from omni_jax.build.trained import AssistantVoices, Captioned, Trained, Transcribed
from omni_jax.prepare.speakable import MANDARIN


def spoken_dialogue(workdir: Path) -> Steps:
  """English text dialogues, the first exchange of each, said by the voices of this machine."""
  return Steps(steps=(Cleaned(), Spoken(voices=english_voices())))


def mandarin_dialogue(workdir: Path) -> Steps:
  """Mandarin text dialogues, said by espeak-ng in the neutral emotion."""
  return Steps(steps=(Cleaned(speakable=MANDARIN), Spoken(voices=mandarin_voices(), judge=WordJudge(emotional=False))))


def assistant_dialogue(workdir: Path) -> Steps:
  """English text dialogues, said by the assistant that was trained in the working folder."""
  trained = Trained(workdir=workdir)
  return Steps(steps=(Cleaned(), Spoken(voices=AssistantVoices(trained=trained))), mark=trained.mark)


def readings(workdir: Path) -> Steps:
  """English texts drawn as pictures to be read."""
  return Steps(steps=(Rendered(),))


def mandarin_readings(workdir: Path) -> Steps:
  """Texts with Chinese characters drawn as pictures to be read, in Noto's font, which is looked for in the system's."""
  return Steps(steps=(Rendered(font="NotoSansCJK-Regular.ttc", requests=MANDARIN_REQUESTS),))


def captions(workdir: Path) -> Steps:
  """Captions by the trained assistant: `--source pictures:DIR --set captioned=False`."""
  trained = Trained(workdir=workdir)
  return Steps(steps=(Captioned(trained=trained),), mark=trained.mark)


def transcripts(workdir: Path) -> Steps:
  """Words of recordings that nobody wrote down, by the trained assistant: pairs to recognise and to synthesise."""
  trained = Trained(workdir=workdir)
  return Steps(steps=(Transcribed(trained=trained),), mark=trained.mark)
