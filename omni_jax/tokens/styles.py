"""A style as three tokens, gender, emotion, pitch: heard before the user's units, chosen before a reply."""

from collections.abc import Sequence

from omni_jax.core.styles import Style
from omni_jax.tokens.vocabulary import Vocabulary

NUM_STYLE_TOKENS = 3


def encode_style(style: Style, vocabulary: Vocabulary) -> list[int]:
  """Returns the three ids of `style`; none in a vocabulary without style tokens, as EMOVA released it."""
  if not vocabulary.styles:
    return []
  parts = (f"gender-{style.gender}", f"emotion-{style.emotion}", f"pitch-{style.pitch}")
  return [vocabulary.styles[part] for part in parts]


def decode_style(ids: Sequence[int], vocabulary: Vocabulary) -> Style | None:
  """Returns the style of three ids, None if they are not a gender, an emotion and a pitch in this order."""
  names = {i: name for name, i in vocabulary.styles.items()}
  parts = [names.get(int(i), "").partition("-") for i in ids]
  if [part for part, _, _ in parts] != ["gender", "emotion", "pitch"]:
    return None
  return Style(*[value for _, _, value in parts])
