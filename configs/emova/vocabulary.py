"""The vocabulary of the tiny journey: pieces of the corpus's own texts, 4096 speech units, the style tokens.

Source: arXiv 2409.18042 extends Qwen2.5's tokenizer by 4096 units; here the text part is trained too, and styles are
tokens of their own.
Command: omni vocabulary --config configs/emova/vocabulary.py:tiny --workdir runs/tiny
"""

from omni_jax.build.vocabulary import VocabularyConfig

TEXT_SIZE = 768  # rows of the text table: sentencepiece pieces (757) and control tokens (11)


def tiny() -> VocabularyConfig:
  """Returns the vocabulary that the language model's configs expect."""
  return VocabularyConfig(text_size=TEXT_SIZE)


def smoke() -> VocabularyConfig:
  """Returns the same."""
  return tiny()
