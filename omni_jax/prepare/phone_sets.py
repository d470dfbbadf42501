"""The phone sets that text can be written in, by name: the classes of a tokenizer's CTC training."""

import dataclasses
from collections.abc import Callable

from omni_jax.prepare import phonemes
from omni_jax.prepare.emova_phones import EMOVA_PHONES
from omni_jax.prepare.emova_text import emova_phones


@dataclasses.dataclass(frozen=True)
class PhoneSet:
  """The symbols in the order of their ids (`phones.json`), and the function from text to them."""

  symbols: tuple[str, ...]
  phones: Callable[[str], tuple[str, ...]]


PHONE_SETS = {
  "espeak": PhoneSet(phonemes.PHONES, phonemes.phones),  # US English, of the tiny journey
  "emova": PhoneSet(EMOVA_PHONES, emova_phones),  # English with stress and Mandarin with tones
}
