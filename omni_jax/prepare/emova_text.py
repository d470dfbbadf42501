"""Text in English, Mandarin or both -> EMOVA's 240 phones: each stretch of a script by the rules of its language."""

import re
import unicodedata

from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.words import HAN
from omni_jax.prepare.english_phones import arpabet
from omni_jax.prepare.mandarin_phones import mandarin_phones

# Stretches of Chinese characters, words of letters and digits, and letters of no script here.
_STRETCH = re.compile(rf"(?P<han>[{HAN}]+)|(?P<word>[a-z0-9]+(?:'[a-z0-9]+)*'?)|(?P<other>[^\W\d_])")


def emova_phones(text: str) -> tuple[str, ...]:
  """Returns the labels of `text`; punctuation says nothing, accents are dropped, numbers in English text are read.

  >>> emova_phones("the 花儿")
  ('en_DH', 'en_AH0', 'CN_h', 'CN_ua1', 'CN_rr')

  Raises:
    UserError: a letter of another script, a character without a reading, or nothing to say.
  """
  plain = unicodedata.normalize("NFKD", text.lower().replace("’", "'"))
  plain = unicodedata.normalize("NFC", "".join(c for c in plain if not unicodedata.combining(c)))
  if re.search(rf"[{HAN}]", plain) and re.search(r"\d", plain):
    raise _unsaid(f"digits in {text!r:.80}", rule="numbers between Chinese characters are written in characters")
  labels: list[str] = []
  for match in _STRETCH.finditer(plain):
    if match["other"]:
      raise _unsaid(f"{match[0]!r} in {text!r:.80}", rule="letters are Latin, characters Chinese")
    labels += mandarin_phones(match[0]) if match["han"] else [f"en_{phone}" for phone in arpabet(match[0])]
  if not labels:
    raise _unsaid(f"nothing to pronounce in {text!r:.80}", rule="text holds words")
  return tuple(labels)


def _unsaid(what: str, *, rule: str) -> UserError:
  return UserError(
    what, where="EMOVA's phones", rule=rule, remedy="leave the record out, or write the words as they sound"
  )
