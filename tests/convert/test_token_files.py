import json

import pytest

from omni_jax.build.vocabulary import BaseVocabularyConfig, build_base_vocabulary
from omni_jax.convert.token_files import write_token_files
from omni_jax.tokens.extension import extend_vocabulary, load_tokenizer, unit_name
from omni_jax.tokens.text import train_text_tokenizer
from omni_jax.tokens.vocabulary import make_vocabulary
from tests.tokens.trained import SENTENCES, train_json


@pytest.fixture
def out(tmp_path):
  (tmp_path / "out").mkdir()
  return tmp_path / "out"


def test_a_sentencepiece_base_spells_its_units_in_added_tokens(tmp_path, out):
  train_text_tokenizer(SENTENCES * 3, path=tmp_path / "base" / "tokenizer.model", num_pieces=300)
  (tmp_path / "base" / "added_tokens.json").write_text(json.dumps({"<s>": 300, "</s>": 301}))
  config = BaseVocabularyConfig(base=tmp_path / "base", codebook_size=16)
  vocabulary = build_base_vocabulary(config, tmp_path)
  write_token_files(tmp_path / "text", out)
  names = json.loads((out / "added_tokens.json").read_text())
  assert names["</s>"] == 301 and names[unit_name(15)] == vocabulary.unit_ids[15]
  again = extend_vocabulary(load_tokenizer(out), end="</s>", codebook_size=16)
  assert again.unit_ids.tolist() == vocabulary.unit_ids.tolist() and again.size == vocabulary.size


@pytest.mark.parametrize("units", [0, 16])
def test_a_tokenizer_json_spells_everything_that_was_added(tmp_path, out, units):
  (tmp_path / "base").mkdir()
  (tmp_path / "base" / "tokenizer.json").write_text(train_json(units=units))
  vocabulary = build_base_vocabulary(BaseVocabularyConfig(base=tmp_path / "base", codebook_size=16), tmp_path)
  write_token_files(tmp_path / "text", out)
  specials = load_tokenizer(out).specials
  assert [specials[unit_name(unit)] for unit in range(16)] == vocabulary.unit_ids.tolist()
  assert specials["<|pitch-low|>"] == vocabulary.styles["pitch-low"]
  assert json.loads((out / "tokenizer_config.json").read_text())["eos_token"] == "<|im_end|>"


def test_a_tokenizer_trained_here_is_copied_as_it_is(tmp_path, out):
  tokenizer = train_text_tokenizer(SENTENCES * 3, path=tmp_path / "text" / "tokenizer.model", num_pieces=300)
  make_vocabulary(tokenizer, text_size=320, codebook_size=16).save(tmp_path / "text" / "vocabulary.json")
  write_token_files(tmp_path / "text", out)
  assert sorted(path.name for path in out.iterdir()) == ["tokenizer.model", "vocabulary.json"]
