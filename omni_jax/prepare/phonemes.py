"""Phonemes of English text by espeak-ng, as the classes a recogniser is trained on.

espeak-ng writes fine mnemonics; stress, length and reduction marks are dropped, since CTC classes need only what
tells words apart: `s_k_w_'e@` becomes `s k w e@`.
"""

import functools
import re

from omni_jax.core.errors import UserError
from omni_jax.prepare.voices.espeak import phonemizer_process

_MARKS = re.compile(r"[',%=:;#|\-*0-24-9]")  # the digit 3 is a vowel
# Rare symbols in terms of common ones: a class seen twice is not learnt.
_SAME = {
  "aa": ("a",),
  "@L": ("@", "l"),
  "i@3": ("i", "@"),
  "aI@": ("aI", "@"),
  "U@": ("U", "@"),
  "o@": ("O@",),
  "?": (),
}


# Every symbol that `phones` can give for US English; a class no text needs costs nothing.
PHONES = (
  "3", "@", "A", "A@", "D", "E", "I", "N", "O", "O@", "OI", "S", "T", "U", "V", "Z", "a", "aI", "aU", "b", "d", "dZ",
  "e@", "eI", "f", "g", "h", "i", "i@", "j", "k", "l", "m", "n", "oU", "p", "r", "s", "t", "tS", "u", "v", "w", "z",
)  # fmt: skip
_KNOWN = frozenset(PHONES)


@functools.lru_cache(maxsize=100_000)
def phones(text: str) -> tuple[str, ...]:
  """Returns the phone symbols of `text`.

  Raises:
    UserError: there is nothing to pronounce, or a sound foreign to US English.
  """
  symbols = []
  for mnemonic in phonemizer_process().phonemes(text).replace(" ", "_").split("_"):
    plain = _MARKS.sub("", mnemonic)
    if plain:
      symbols += _SAME.get(plain, (plain,))
  unknown = sorted(set(symbols) - _KNOWN)
  if unknown:
    raise UserError(
      f"unknown phones {' '.join(unknown)} in {text!r}",
      where="phonemes",
      rule=f"phones of US English are {' '.join(PHONES)}",
      remedy="spell the word out in English letters",
    )
  if not symbols:
    raise UserError(
      f"nothing to pronounce in {text!r}", where="phonemes", rule="text holds words", remedy="give a text with letters"
    )
  return tuple(symbols)
