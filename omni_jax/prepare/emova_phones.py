"""The 240 tonal phones that EMOVA's speech-to-unit model reads, in the order of its classes; class 240 is the blank.

First English, `en_` before ARPAbet: vowels with their stress (0 none, 1 primary, 2 secondary) and consonants. Then
Mandarin, `CN_` before initials, and finals with their tone (5 is the neutral one). Each language is in alphabetical
order (`LABELS` of the EMOVA speech tokenizer's fine-tuning config).
"""

_VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW"
_CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH"
_INITIALS = "b c ch d f g h j k l m n p q r rr s sh t x z zh"  # rr: the r that ends a syllable
_FINALS_OF_FIVE_TONES = "a e en ii uo"  # ii: the vowel of si
_FINALS = "ai an ang ao ei eng i ia ian iang iao ie iii in ing iong iou o ong ou u ua uai uan uang ui un v van ve vn"


def _ordered(language: str, *groups: tuple[str, str]) -> tuple[str, ...]:
  """Returns the phones of a language; a group is sounds and the marks that each of them takes, if any."""
  phones = [sound + mark for sounds, marks in groups for sound in sounds.split() for mark in marks or ("",)]
  return tuple(f"{language}_{phone}" for phone in sorted(phones))


ENGLISH_PHONES = _ordered("en", (_VOWELS, "012"), (_CONSONANTS, ""))
MANDARIN_PHONES = _ordered("CN", (_FINALS_OF_FIVE_TONES, "12345"), (_FINALS, "1234"), (_INITIALS, ""))
EMOVA_PHONES = ENGLISH_PHONES + MANDARIN_PHONES
