import random

import pytest

from omni_jax.core.errors import UserError
from omni_jax.prepare import mandarin
from omni_jax.prepare.emova_phones import MANDARIN_PHONES
from omni_jax.prepare.mandarin import pinyin_phones
from omni_jax.prepare.voices import espeak


@pytest.mark.parametrize(
  ("text", "phones"),
  [
    ("ni3 hao3", "n i3 h ao3"),
    ("shi4 chang3", "sh iii4 ch ang3"),
    ("si1 zi5", "s ii1 z ii5"),
    ("xue2 qu4 jun1 yuan2", "x ve2 q v4 j vn1 van2"),
    ("jiu3 dui4 you3 wei4 wen2", "j iou3 d ui4 iou3 ui4 un2"),
    ("lv4 nü3 lu4", "l v4 n v3 l u4"),
    ("er2 ai4 wo3 yi1 wu3 yu2", "e2 rr ai4 uo3 i1 u3 v2"),
  ],
)
def test_pinyin_becomes_the_phones_of_emova(text, phones):
  assert pinyin_phones(text) == tuple(f"CN_{phone}" for phone in phones.split())


@pytest.mark.parametrize("text", ["", "ni", "ni6", "hello", "xia5", "bla4", "Ni3"])
def test_what_is_no_mandarin_is_told(text):
  with pytest.raises(UserError, match="pinyin"):
    pinyin_phones(text)


def test_every_sentence_has_phones_and_no_syllable_is_read_as_english():
  process = espeak.phonemizer_process()
  for syllable in sorted(mandarin.syllables()):
    assert set(pinyin_phones(syllable)) <= set(MANDARIN_PHONES)
  assert "(en)" not in process.phonemes(" ".join(sorted(mandarin.syllables())), espeak.MANDARIN)
  chooser = random.Random(0)
  texts = {mandarin.sentence(chooser) for _ in range(300)}
  assert len(texts) > 250 and {word for text in texts for word in text.split()} <= mandarin.syllables()
  assert max(len(pinyin_phones(text)) for text in texts) < 40
