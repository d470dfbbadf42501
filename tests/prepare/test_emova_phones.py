import hashlib

from omni_jax.prepare.emova_phones import EMOVA_PHONES, ENGLISH_PHONES, MANDARIN_PHONES
from omni_jax.speech.speech_to_unit import EMOVA_SPEECH_TO_UNIT

# Of the list in the original's config, joined by spaces.
ORIGINAL = "c9cca09d13024fcdd243a9118250685b2619558bad343ec3987eb71134fdff3c"


def test_there_are_as_many_as_the_model_reads():
  assert len(ENGLISH_PHONES) == 69 and len(MANDARIN_PHONES) == 171
  assert len(set(EMOVA_PHONES)) == len(EMOVA_PHONES) == EMOVA_SPEECH_TO_UNIT.num_phones


def test_a_phone_stands_where_the_original_has_it():
  assert EMOVA_PHONES[0] == "en_AA0" and EMOVA_PHONES[68] == "en_ZH"
  assert EMOVA_PHONES[69] == "CN_a1" and EMOVA_PHONES[239] == "CN_zh"
  assert hashlib.sha256(" ".join(EMOVA_PHONES).encode()).hexdigest() == ORIGINAL
