"""SpeechGPT (arXiv 2305.11000): a LLaMA whose vocabulary also holds 1000 units of speech and six marks.

It is a `LanguageModel` of one row and nothing more; what is its own lies in the layout (`tokens.speech_gpt`).
"""

import dataclasses

from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.language import NO_IMAGES, LanguageConfig
from omni_jax.models.sizes import LLAMA_7B, LLAMA_13B
from omni_jax.tokens.vocabulary import Vocabulary

_ADDED = 1006  # units <0> to <999>, <sosp>, <eosp>, [Human], [SpeechGPT], <eoh> and one more: 33,006 rows


def speech_gpt(base: DecoderConfig, vocabulary: Vocabulary, *, unit_levels: tuple[int, ...] = ()) -> LanguageConfig:
  """Returns a SpeechGPT on any decoder, its tables as `tokens.speech_gpt.speech_gpt_vocabulary` has them.

  Args:
    base: the language model.
    vocabulary: with units and marks.
    unit_levels: of units that are digits, as `DecoderConfig` has it.
  """
  return _extended(base, text_size=vocabulary.text_size, added=vocabulary.extra_size, unit_levels=unit_levels)


def _extended(base: DecoderConfig, *, text_size: int, added: int, unit_levels: tuple[int, ...] = ()) -> LanguageConfig:
  decoder = dataclasses.replace(base, vocab_size=text_size, extra_vocab_size=added, unit_levels=unit_levels)
  return LanguageConfig(decoder=decoder, image_token=NO_IMAGES)


SPEECH_GPT_7B = _extended(LLAMA_7B, text_size=LLAMA_7B.vocab_size, added=_ADDED)  # hub fnlp/SpeechGPT-7B-cm
SPEECH_GPT_13B = _extended(LLAMA_13B, text_size=LLAMA_13B.vocab_size, added=_ADDED)  # of the paper, never released
