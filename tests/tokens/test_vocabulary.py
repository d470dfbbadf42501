import dataclasses
import json

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.tokens.vocabulary import (
  CONTROLS,
  STYLE,
  STYLE_PARTS,
  TEXT,
  UNIT,
  Vocabulary,
  control_ids,
  extra_size,
  make_vocabulary,
)


def test_round_trip_through_the_file(vocabulary, tmp_path):
  vocabulary.save(tmp_path / "vocabulary.json")
  again = Vocabulary.load(tmp_path / "vocabulary.json")
  assert again.fingerprint() == vocabulary.fingerprint()
  np.testing.assert_array_equal(again.kinds(), vocabulary.kinds())


def test_ids_are_a_bijection_and_kinds_count_them(vocabulary):
  kinds = vocabulary.kinds()
  assert (kinds == UNIT).sum() == 64 and (kinds == STYLE).sum() == len(STYLE_PARTS) == 9
  assert (kinds == TEXT).sum() == vocabulary.num_pieces + len(CONTROLS)
  units = vocabulary.unit_of()
  np.testing.assert_array_equal(units[vocabulary.unit_ids], np.arange(64))
  assert (units >= 0).sum() == 64


def test_sizes_are_known_before_the_tokenizer_is(vocabulary):
  assert vocabulary.controls == control_ids(320)
  assert vocabulary.extra_size == extra_size(64) == 80 and extra_size() == 4112
  assert vocabulary.unit_ids[0] == 320, "row u of the extra table is unit u"


def test_scrambled_ids_are_read_not_computed(vocabulary):
  scrambled = dataclasses.replace(vocabulary, unit_ids=vocabulary.unit_ids[::-1].copy())
  assert scrambled.unit_of()[scrambled.unit_ids[5]] == 5
  assert scrambled.fingerprint() != vocabulary.fingerprint()


def test_bad_vocabularies_are_refused(vocabulary, tokenizer, tmp_path):
  with pytest.raises(UserError, match="ids are used twice"):
    dataclasses.replace(vocabulary, unit_ids=np.zeros(64, np.int32) + vocabulary.unit_ids[0])
  with pytest.raises(UserError, match="control tokens missing: pad"):
    dataclasses.replace(vocabulary, controls={k: v for k, v in vocabulary.controls.items() if k != "pad"})
  with pytest.raises(UserError, match="outside their table"):
    dataclasses.replace(vocabulary, controls=vocabulary.controls | {"pad": 0})
  with pytest.raises(UserError, match="do not fit"):
    make_vocabulary(tokenizer, text_size=tokenizer.num_pieces)
  with pytest.raises(UserError, match="unknown control token 'nope'"):
    vocabulary.control("nope")
  with pytest.raises(UserError, match="no vocabulary"):
    Vocabulary.load(tmp_path / "none.json")
  for text in ("{", "[]", json.dumps({"unit_ids": []})):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(UserError, match=r"bad\.json"):
      Vocabulary.load(tmp_path / "bad.json")
