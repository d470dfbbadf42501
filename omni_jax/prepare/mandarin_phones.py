"""Mandarin characters -> initials and finals with tones, by pypinyin, in the spelling of EMOVA's labels.

    二 er4             e4 rr                rr: the r that ends a syllable
    花儿 hua1 er2      h ua1 rr             the suffix 儿 is only this r, but 女儿 n v3 e2 rr
    子 zi5             z ii5                ii: the vowel of zi ci si; iii: that of zhi chi shi ri
    有 you3, 九 jiu3   iou3, j iou3         finals after no consonant are written as after one
    为 wei4, 文 wen2   ui4, un2
    鱼 yu2, 学 xue2    v2, x ve2            v: ü
    翁 weng1           ong1                 one final in other surroundings
    头 tou5            t ou2                neutral, but the labels have no ou5: the character's own tone

Words decide between readings (pypinyin's phrases); tones are those of the dictionary, without sandhi, as in lexica
for recognition. A neutral tone with no label and no other reading is written as a fourth tone. 儿 is a suffix unless
it begins a stretch of characters or its neighbour says that it means a child (_CHILD_BEFORE, _CHILD_AFTER).
"""

import functools
import re

from omni_jax.core.errors import UserError
from omni_jax.prepare.emova_phones import MANDARIN_PHONES

_SYLLABLE = re.compile(r"([a-zê]+)([1-5]?)")
_INITIAL = re.compile(r"zh|ch|sh|[bpmfdtnlgkhjqxrzcs]")
_ALONE = {
  "yi": "i", "ya": "ia", "ye": "ie", "yao": "iao", "you": "iou", "yan": "ian", "yin": "in", "yang": "iang",
  "ying": "ing", "yong": "iong", "yo": "o", "yai": "ai", "yu": "v", "yue": "ve", "yuan": "van", "yun": "vn",
  "wu": "u", "wa": "ua", "wo": "uo", "wai": "uai", "wei": "ui", "wan": "uan", "wen": "un", "wang": "uang",
  "weng": "ong", "ê": "ei", "n": "en", "ng": "en", "m": "en",
}  # fmt: skip
_ROUNDED = {"u": "v", "ue": "ve", "uan": "van", "un": "vn"}  # after j q x
_SPELLED = {"iu": "iou", "ue": "ve", "ng": "eng", "m": "en", "io": "o"}  # hng and hm are hummed
_BUZZING = {**dict.fromkeys(("zh", "ch", "sh", "r"), "iii"), **dict.fromkeys(("z", "c", "s"), "ii")}
_CHILD_BEFORE = "女婴幼胎少孤男育托健生宠患侄妻弃产"
_CHILD_AFTER = "子童女科歌媳孙戏"
_CODA = "CN_rr"
_LABELS = frozenset(MANDARIN_PHONES)


def mandarin_phones(characters: str) -> tuple[str, ...]:
  """Returns the labels of Chinese characters, read as one text.

  Raises:
    UserError: pypinyin is not installed, or does not know a character.
  """
  labels: list[str] = []
  for place, (character, syllable) in enumerate(zip(characters, _syllables(characters), strict=True)):
    labels += (_CODA,) if _is_suffix(characters, place) else _labels(character, syllable)
  return tuple(labels)


def _is_suffix(characters: str, place: int) -> bool:
  if characters[place] not in "儿兒" or place == 0:
    return False
  return characters[place - 1] not in _CHILD_BEFORE and characters[place + 1 : place + 2] not in tuple(_CHILD_AFTER)


def _syllables(characters: str) -> list[str]:
  pypinyin = _pypinyin()
  read = pypinyin.lazy_pinyin(characters, style=pypinyin.Style.TONE3, neutral_tone_with_five=True)
  if len(read) != len(characters):
    raise _unreadable(characters)
  return read


def syllable_labels(syllable: str) -> tuple[str, ...]:
  """Returns the labels of one syllable of pinyin with its tone: `shuo1`, `nv3` or `nü3`, `de5` (no digit: neutral).

  Nothing, if it is no syllable of Mandarin, or its final has no label in this tone.
  """
  match = _SYLLABLE.fullmatch(syllable.replace("ü", "v"))
  if not match:
    return ()
  letters, tone = match[1], match[2] or "5"
  initial, final = _parts(letters)
  coda: tuple[str, ...] = ()
  if final == "er":
    final, coda = "e", (_CODA,)
  labels = (*((f"CN_{initial}",) if initial else ()), f"CN_{final}{tone}", *coda)
  return labels if set(labels) <= _LABELS else ()


@functools.lru_cache(maxsize=50_000)
def _labels(character: str, syllable: str) -> tuple[str, ...]:
  labels = syllable_labels(syllable) or syllable_labels(syllable.rstrip("12345") + _own_tone(character))
  if not labels:
    raise _unreadable(character)
  return labels


def _parts(letters: str) -> tuple[str, str]:
  """Returns initial (or nothing) and final of a syllable."""
  if letters in _ALONE:
    return "", _ALONE[letters]
  match = _INITIAL.match(letters)
  initial = match[0] if match else ""
  final = letters.removeprefix(initial)
  if initial in ("j", "q", "x"):
    final = _ROUNDED.get(final, final)
  if final == "i" and initial in _BUZZING:
    final = _BUZZING[initial]
  return initial, _SPELLED.get(final, final)


def _own_tone(character: str) -> str:
  pypinyin = _pypinyin()
  (readings,) = pypinyin.pinyin(character, style=pypinyin.Style.TONE3, heteronym=True, neutral_tone_with_five=True)
  tones = [reading[-1] for reading in readings if reading[-1] in "1234"]
  return tones[0] if tones else "4"


def _pypinyin():
  try:
    import pypinyin
  except ImportError as error:
    raise UserError(
      "pypinyin is not installed",
      where="Mandarin phones",
      rule="characters are looked up",
      remedy='pip install "omni_jax[phones]"',
    ) from error
  return pypinyin


def _unreadable(characters: str) -> UserError:
  return UserError(
    f"no reading of {characters!r:.80}",
    where="Mandarin phones",
    rule="pypinyin knows every character and the labels have its syllable",
    remedy="write it with common characters, or leave the record out",
  )
