import json

import pytest

from omni_jax.cli.main import main
from omni_jax.core.errors import UserError
from omni_jax.tokens.answers import NativeLayout
from omni_jax.tokens.dialogue import Question, load_dialogue
from omni_jax.tokens.extension import unit_name
from omni_jax.tokens.hugging_face import HuggingFaceTokenizer
from omni_jax.tokens.speech_gpt import MARKS
from omni_jax.tokens.templates import QWEN2, TEMPLATES, end_token, special_tokens, template_of
from omni_jax.tokens.text import SentencePieceTokenizer, train_text_tokenizer
from omni_jax.tokens.vocabulary import Vocabulary
from tests.tokens.trained import SENTENCES, train_json


def omni(*words) -> int:
  return main(["vocabulary", *map(str, words)])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
  folder = tmp_path_factory.mktemp("base")
  (folder / "tokenizer.json").write_text(train_json())
  return folder


def test_a_base_becomes_a_vocabulary_that_dialogues_read(base, tmp_path, capsys):
  assert omni("--base", base, "--workdir", tmp_path, "--codebook-size", 64) == 0
  vocabulary = Vocabulary.load(tmp_path / "text" / "vocabulary.json")
  assert vocabulary.size % 128 == 0 and f"{vocabulary.size} ids in all" in capsys.readouterr().out
  assert vocabulary.text_size == HuggingFaceTokenizer.load(base / "tokenizer.json").num_ids
  assert vocabulary.specials["<|im_end|>"] == vocabulary.control("end") and len(vocabulary.styles) == 9
  dialogue = load_dialogue(tmp_path / "text", template=QWEN2, layout=NativeLayout(text_chunk=2, unit_chunk=3))
  typed = dialogue.prompt(Question(text=f"the {unit_name(3)} <|im_end|> dog"))
  assert vocabulary.unit_ids[3] not in typed and typed.count(vocabulary.control("end")) == 2  # system and user turn
  before = (tmp_path / "text" / "vocabulary.json").read_bytes()
  assert omni("--base", base, "--workdir", tmp_path, "--codebook-size", 64) == 0
  assert (tmp_path / "text" / "vocabulary.json").read_bytes() == before


def test_units_of_a_release_are_taken(base, tmp_path):
  num_ids = HuggingFaceTokenizer.load(base / "tokenizer.json").num_ids
  table = {unit_name(unit): num_ids + (5 * unit) % 64 for unit in range(64)}
  (tmp_path / "added_tokens.json").write_text(json.dumps(table))
  words = ("--base", base, "--workdir", tmp_path, "--codebook-size", 64, "--units", tmp_path / "added_tokens.json")
  assert omni(*words, "--released") == 0
  vocabulary = Vocabulary.load(tmp_path / "text" / "vocabulary.json")
  assert {unit_name(unit): i for unit, i in enumerate(vocabulary.unit_ids.tolist())} == table
  assert not vocabulary.styles and "heard" not in vocabulary.controls


def test_a_sentencepiece_base_takes_the_place_of_another(base, tmp_path, capsys):
  (tmp_path / "llama").mkdir()
  train_text_tokenizer(SENTENCES * 3, path=tmp_path / "llama" / "tokenizer.model", num_pieces=300)
  (tmp_path / "llama" / "added_tokens.json").write_text(json.dumps({"<s>": 300, "</s>": 301}))
  work = tmp_path / "work"
  assert omni("--base", base, "--workdir", work, "--codebook-size", 64) == 0
  words = ("--base", tmp_path / "llama", "--workdir", work, "--codebook-size", 64)
  assert omni(*words) == 2
  assert "one working folder has one vocabulary" in capsys.readouterr().err
  assert omni(*words, "--overwrite") == 0
  layout = NativeLayout(text_chunk=2, unit_chunk=3)
  dialogue = load_dialogue(work / "text", template=TEMPLATES["v1"], layout=layout)
  assert isinstance(dialogue.tokenizer, SentencePieceTokenizer)
  assert dialogue.vocabulary.control("end") == 301 and dialogue.vocabulary.unit_ids[0] == 302


def test_what_does_not_fit_is_told(base, tmp_path, capsys):
  nothing = tmp_path / "nothing"
  nothing.mkdir()
  for words, message in (
    (("--base", nothing), "no text tokenizer"),
    (("--base", base, "--units", nothing), "no unit table"),
    (("--base", base, "--template", "v0"), "generation stops at a special token"),
    (("--base", base, "--set", "text_size=3"), "--set beside --base"),
    (("--config", "configs/emova/vocabulary.py:tiny", "--released"), "--released beside --config"),
  ):
    assert omni(*words, "--workdir", tmp_path / "work") == 2
    assert message in capsys.readouterr().err
  assert not (tmp_path / "work").exists()


def test_the_template_is_found_by_its_special_tokens():
  for name in ("qwen2", "llama3", "deepseek", "glm4", "phi3", "v1"):
    names = special_tokens(TEMPLATES[name])
    assert template_of(dict.fromkeys(names, 0)) == name and end_token(TEMPLATES[name]) in names
  with pytest.raises(UserError, match="no template for the special tokens <e>"):
    template_of({"<e>": 0})


def test_a_base_gets_the_units_and_marks_of_speech_gpt(base, tmp_path):
  assert omni("--base", base, "--workdir", tmp_path, "--codebook-size", 64, "--speech-gpt") == 0
  vocabulary = Vocabulary.load(tmp_path / "text" / "vocabulary.json")
  first = HuggingFaceTokenizer.load(base / "tokenizer.json").num_ids
  assert vocabulary.unit_ids.tolist() == list(range(first, first + 64))
  assert [vocabulary.specials[name] for name in MARKS] == list(range(first + 64, first + 70))
  with pytest.raises(UserError, match="unknown control token 'image'"):
    vocabulary.control("image")
