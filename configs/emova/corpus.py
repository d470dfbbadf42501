"""The made-up corpus of the quickstart: speech with prosody classes, drawn images, text, spoken dialogue.

Source: none; everything is synthesised and drawn by `omni_jax.prepare`.
Command: `omni corpus --config configs/emova/corpus.py:tiny --workdir runs/tiny`; `:additions` adds Mandarin speech and
the same words in all 24 styles, for `spiral.py:mandarin` and `omni compare`.
Hardware: 2 CPU cores; minutes and hours of speech as printed by the command.
"""

from omni_jax.build.corpus import AdditionConfig, CorpusConfig


def tiny() -> CorpusConfig:
  """Returns the corpus of the quickstart: about five hours of speech in under three minutes."""
  return CorpusConfig(
    seed=0,
    text=10000,
    images=7000,
    speech=5400,
    dialogue=800,
    text_test=200,
    images_test=300,
    speech_test=150,
    voice_test=80,
    dialogue_test=120,
    spoken_images_test=120,
    pairs=30,
    questions_per_image=4,
    spoken_image_share=0.025,
  )


def smoke() -> CorpusConfig:
  """Returns the corpus of a smoke test: some three hundred utterances, seconds to make."""
  return CorpusConfig(
    seed=0,
    text=400,
    images=120,
    speech=120,
    dialogue=40,
    text_test=16,
    images_test=12,
    speech_test=12,
    voice_test=8,
    dialogue_test=12,
    spoken_images_test=12,
    pairs=3,
    questions_per_image=4,
    spoken_image_share=0.025,
  )


def additions() -> AdditionConfig:
  """Returns sets beside those of `tiny`, which they leave as it is: an hour of Mandarin, 20 sentences in 24 styles."""
  return AdditionConfig(seed=0, mandarin=1600, mandarin_test=120, mandarin_voice=60, styles=20)


def additions_smoke() -> AdditionConfig:
  """Returns a few of each."""
  return AdditionConfig(seed=0, mandarin=24, mandarin_test=6, mandarin_voice=3, styles=2)
