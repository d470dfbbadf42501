"""Transcripts as records hold what is spoken: lower case, without punctuation; Mandarin without spaces."""

import re
import unicodedata

from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.entries import require_text

HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff〇"
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'"})
_NO_WORD = re.compile(r"[^\w']|_")
_OUTER_APOSTROPHE = re.compile(r"(?<!\w)'|'(?!\w)")
_BETWEEN_HAN = re.compile(rf"(?<=[{HAN}])\s+(?=[{HAN}])")


def spoken_words(text: str, *, where: object) -> str:
  """Returns the words of a transcript.

  >>> spoken_words("The Garden, it's GREEN!", where="")
  "the garden it's green"

  Raises:
    UserError: there are none.
  """
  require_text(text, where=where)
  plain = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).lower()
  words = " ".join(_OUTER_APOSTROPHE.sub(" ", _NO_WORD.sub(" ", plain)).split())
  words = _BETWEEN_HAN.sub("", words)
  if not words:
    raise UserError(f"no words in {text!r:.80}", where=where, rule="what is spoken has words", remedy="leave it out")
  return words
