"""A small Mandarin world in pinyin, and the phones of pinyin as EMOVA's speech-to-unit model names them.

Text is pinyin with the tone as a digit behind each syllable (5: the neutral one), one word after another:
`wo3 mai3 le5 yi1 ben3 shu1`. That is what espeak-ng's `cmn-latn-pinyin` reads; syllables it would take for English
(`nü3`, `qiong2`) are not used. Phones are an initial and a final with its tone, the 171 of `emova_phones`.
"""

import random

from omni_jax.core.errors import UserError
from omni_jax.prepare.mandarin_phones import syllable_labels

_PEOPLE = (
  "wo3 ma1 ma5", "wo3 ba4 ba5", "lao3 shi1", "yi1 sheng1", "wo3 peng2 you3", "ta1 ge1 ge5", "ni3 mei4 mei4",
  "nong2 min2", "na4 ge4 lao3 ren2", "wo3 men5 lin2 ju1", "guo2 wang2", "si1 ji1",
)  # fmt: skip
_THINGS = (
  "shu1", "xin4", "ping2 guo3", "zhuo1 zi5", "chuang1 hu4", "men2", "qi4 che1", "dian4 hua4", "zhi3", "yi3 zi5",
  "ji2 ta1", "la4 zhu2", "bao4 zhi3", "mian4 bao1", "lan2 zi5", "wai4 tao4",
)  # fmt: skip
_ADJECTIVES = ("xiao3", "da4", "jiu4", "xin1", "hen3 zhong4", "piao4 liang4", "qi2 guai4", "huang2 se4", "hong2 se4")
_VERBS = ("mai3 le5", "zhao3 dao4 le5", "kan4 le5", "na2 le5", "mai4 le5", "hua4 le5", "xiang3 yao4", "ji4 de5")
_PLACES = (
  "zai4 hua1 yuan2 li3", "zai4 chu2 fang2", "zai4 gong1 yuan2", "zai4 xue2 xiao4", "zai4 shi4 chang3",
  "zai4 he2 bian1", "zai4 che1 zhan4", "zai4 sen1 lin2 li3", "zai4 cheng2 shi4 li3", "zai4 hai3 tan1 shang4",
)  # fmt: skip
_TIMES = (
  "jin1 tian1", "zuo2 tian1", "jin1 zao3", "zuo2 wan3", "shang4 zhou1", "xing1 qi1 yi1", "xia4 wu3", "qu4 nian2",
  "wan3 fan4 hou4", "hen3 jiu3 yi3 qian2",
)  # fmt: skip
_ANIMALS = ("gou3", "mao1", "ma3", "niao3", "tu4 zi5", "ji1", "da4 xiang4", "hou2 zi5")
_MOTIONS = ("pao3 le5", "shui4 zhao2 le5", "zou3 guo4 qu4", "wan2 le5", "deng3 zhe5", "zuo4 zhe5")
_NUMBERS = ("liang3 ge4", "san1 ge4", "si4 ge4", "wu3 ge4", "liu4 ge4", "qi1 ge4", "ba1 ge4", "jiu3 ge4", "shi2 ge4")
_TEMPLATES = (
  "{person} {verb} yi1 ge4 {thing} ",
  "{time} {person} {verb} {number} {thing}",
  "{person} {verb} na4 ge4 {adjective} de5 {thing}",
  "na4 zhi1 {animal} {place} {motion}",
  "{place} you3 yi1 ge4 {adjective} de5 {thing}",
  "qing3 ni3 kan4 na4 ge4 {adjective} de5 {thing}",
  "{time} {place} you3 {number} {animal}",
  "{person} {time} {place}",
)


def sentence(random_source: random.Random) -> str:
  """Returns one sentence of the grammar, in pinyin."""
  text = random_source.choice(_TEMPLATES).format(
    person=random_source.choice(_PEOPLE),
    thing=random_source.choice(_THINGS),
    adjective=random_source.choice(_ADJECTIVES),
    verb=random_source.choice(_VERBS),
    place=random_source.choice(_PLACES),
    time=random_source.choice(_TIMES),
    animal=random_source.choice(_ANIMALS),
    motion=random_source.choice(_MOTIONS),
    number=random_source.choice(_NUMBERS),
  )
  return " ".join(text.split())


def syllables() -> frozenset[str]:
  """Returns every syllable that a sentence can hold."""
  lists = (_PEOPLE, _THINGS, _ADJECTIVES, _VERBS, _PLACES, _TIMES, _ANIMALS, _MOTIONS, _NUMBERS)
  texts = [text for group in lists for text in group]
  texts += [" ".join(part for part in template.split() if "{" not in part) for template in _TEMPLATES]
  return frozenset(syllable for text in texts for syllable in text.split())


def pinyin_phones(text: str) -> tuple[str, ...]:
  """Returns the phones of pinyin with tone digits: `shi4 chang3` becomes `CN_sh CN_iii4 CN_ch CN_ang3`.

  Raises:
    UserError: no syllable, or one that is no Mandarin, has no tone, or whose final takes no neutral tone.
  """
  phones: list[str] = []
  for syllable in text.split():
    found = syllable_labels(syllable) if syllable[-1].isdigit() else ()
    if not found:
      raise UserError(
        f"cannot read {syllable!r} in {text!r}",
        where="pinyin",
        rule="a syllable of Mandarin with its tone as a digit; 5 behind a, e, en, uo and the vowel of zi only",
        remedy="write for example ni3 hao3, and v for the vowel of lv4",
      )
    phones += found
  if not phones:
    raise UserError(
      f"nothing to pronounce in {text!r}", where="pinyin", rule="text holds syllables", remedy="give a text in pinyin"
    )
  return tuple(phones)
