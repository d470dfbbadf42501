"""Written text -> what can be said aloud, or why it cannot: text dialogues hold code, tables and links.

    Sure! **Paris** is [the capital](https://x.org). See https://y.org   ->   Sure! Paris is the capital. See
    1. wash it                                                           ->   wash it.
    2. cut it                                                            ->   cut it.
    | a | b |, ```python, $x^2$, <div>                                   ->   cannot be said

Formatting is taken away; what would leave a hole in the sense (code, tables, formulas) makes the text unspeakable.
"""

import dataclasses
import html
import re
import unicodedata

from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.entries import require_text
from omni_jax.prepare.corpora.words import HAN

LANGUAGES = ("english", "mandarin")
_PICTURES = ("So", "Sk", "Cf", "Mn", "Co")  # categories of Unicode that emoji are made of

_UNSAID = {
  "code": re.compile(r"```|~~~|^(?: {4}|\t)\S.*[;{}()=]\s*$", re.MULTILINE),
  "a table": re.compile(r"^\s*\|.*\|\s*$|^\s*\|?(?:\s*:?-{3,}:?\s*\|)+", re.MULTILINE),
  "a formula": re.compile(r"\$\$|\\[(\[]|\\[a-zA-Z]+\s*\{|\$[^$\n]*[\\^_=][^$\n]*\$"),
  "markup": re.compile(r"</?[a-zA-Z][a-zA-Z0-9]*(?:\s[^<>]*)?/?>"),
}
_INLINE_CODE = re.compile(r"`([^`\n]+)`")
_LOOKS_LIKE_CODE = re.compile(r"[(){}\[\]=<>;_\\|]|\w\.\w")
_IMAGE = re.compile(r"!\[[^\]]*\]\((?:[^()]|\([^()]*\))*\)")
_LINK = re.compile(r"\[([^\]]+)\]\((?:[^()]|\([^()]*\))*\)")
_ADDRESS = re.compile(
  r"\(?<?\b(?:https?://|www\.)[^\s<>)]*[^\s<>).,;:!?]>?\)?|\b[\w.+-]+@[\w-]+\.[\w.-]*\w", re.IGNORECASE
)
_RULE = re.compile(r"^\s*(?:[-*_]\s*){3,}$", re.MULTILINE)
_QUOTED = re.compile(r"^\s*(?:>\s?)+")
_LINE_MARK = re.compile(r"^\s*(?:#{1,6}\s+|[-*+•]\s+|\(?\d{1,3}[.)]\s+)+")
_EMPHASIS = re.compile(r"(\*{1,3}|(?<!\w)_{1,3}|~~)(?=\S)(.+?)(?<=\S)\1(?!\w)", re.DOTALL)
_DATA = re.compile(r"\(data:[^()\s]{256,}\)")  # a picture within the text
_MOST_SIGNS = 100  # of a word with all around it; patterns that look for a second sign take the square of the length
_ENDS = ".!?:;,。！？：；，…"
_SAID = re.compile(rf"[A-Za-z\u00c0-\u024f0-9{HAN}\s.,;:!?'\"()%$€£&+/°…。！？：；，、“”‘’《》（）—–-]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Speakable:
  """What may be said.

  Attributes:
    language: `english` (Latin letters) or `mandarin` (Chinese characters, perhaps names in Latin letters).
    most: words of a turn, or Chinese characters.
  """

  language: str = "english"
  most: int = 80

  def __post_init__(self):
    if self.language not in LANGUAGES or self.most < 1:
      raise UserError(
        f"language {self.language!r}, at most {self.most} words",
        where="Speakable",
        rule=f"a language is one of {', '.join(LANGUAGES)}, and a word may be said",
        remedy="correct the config",
      )

  def spoken(self, text: str, *, where: object) -> str:
    """Returns `text` as it is said, on one line.

    Args:
      text: as it is written.
      where: which text this is, for the message.

    Raises:
      UserError: it holds what cannot be said, too much or nothing to say, or another language.
    """
    plain = _DATA.sub("()", unicodedata.normalize("NFC", require_text(text, where=where)))
    if len(plain) > _MOST_SIGNS * self.most:
      raise _unspeakable(f"{len(plain)} signs", where, f"1 to {self.most} words are said in one turn")
    try:
      plain = html.unescape(plain).replace("\u00a0", " ")
    except ValueError as error:  # the number of a sign with thousands of digits
      raise _unspeakable(f"{error}", where, "a sign has a number of Unicode") from error
    for name, pattern in _UNSAID.items():
      if found := pattern.search(plain):
        raise _unspeakable(f"{name}: {found[0].strip()!r:.40}", where)
    for code in _INLINE_CODE.findall(plain):
      if _LOOKS_LIKE_CODE.search(code):
        raise _unspeakable(f"code: {code!r:.40}", where)
    plain = _ADDRESS.sub("", _LINK.sub(r"\1", _IMAGE.sub("", _INLINE_CODE.sub(r"\1", plain))))
    said = " ".join(filter(None, map(_line, _RULE.sub("", plain).splitlines())))
    while (bare := _EMPHASIS.sub(r"\2", said)) != said:
      said = bare
    said = "".join(sign for sign in said if _SAID.match(sign) or unicodedata.category(sign) not in _PICTURES)
    said = re.sub(r"\s+([.,;:!?])", r"\1", " ".join(said.split()))
    self._require(said, where)
    return said

  def _require(self, said: str, where: object) -> None:
    strange = _SAID.sub("", said)
    if strange:
      raise _unspeakable(f"the sign {strange[0]!r} in {said!r:.60}", where)
    characters = len(re.findall(rf"[{HAN}]", said))
    is_mandarin = self.language == "mandarin"
    if is_mandarin != bool(characters) or (is_mandarin and re.search(r"\d", said)):
      raise _unspeakable(f"{said!r:.60} as {self.language}", where)
    count = characters if is_mandarin else len(re.findall(r"\w+(?:['’]\w+)*", said))
    if not 0 < count <= self.most:
      raise _unspeakable(f"{count} words", where, f"1 to {self.most} words are said in one turn")


ENGLISH = Speakable()
MANDARIN = Speakable(language="mandarin", most=120)


def _line(line: str) -> str:
  """Returns a line without the signs it begins with; a title or an item of a list ends like a sentence."""
  line = _QUOTED.sub("", line).strip()
  bare = _LINE_MARK.sub("", line).strip()
  return f"{bare}." if bare and bare != line and bare[-1] not in _ENDS else bare


def _unspeakable(what: str, where: object, rule: str = "sentences of one language are said") -> UserError:
  return UserError(what, where=where, rule=rule, remedy="leave it out")
