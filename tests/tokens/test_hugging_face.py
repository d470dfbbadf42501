import json
import pickle
import random

import pytest

from omni_jax.core.errors import UserError
from omni_jax.tokens.hugging_face import HuggingFaceTokenizer
from tests.tokens.trained import SPECIALS

TYPED = (*SPECIALS, "<tool_call>", "<|speech_5|>", "<|emotion-happy|>", "<|heard|>", "<image>", "<pad>")


@pytest.mark.parametrize("alphabet", ["abc the dog", " \n\t{}\"'\\", "äß中文🙂é", "<|>_0123unit"])
def test_decoding_gives_back_any_text(released, alphabet):
  draw = random.Random(0)
  for length in range(1, 30):
    text = "".join(draw.choice(alphabet) for _ in range(length))
    assert released.decode(released.encode(text)) == text


@pytest.mark.parametrize("frame", ["{}", "a{}b", " {} ", "{0}{0}", "the {}\n"])
def test_typed_tokens_stay_text(released, frame):
  for name in TYPED:
    text = frame.format(name)
    ids = released.encode(text)
    assert released.decode(ids) == text
    assert all(0 <= i < released.num_pieces for i in ids) and not set(ids) & set(released.specials.values())


def test_plain_text_has_the_ids_that_their_library_gives(released, released_json):
  from tokenizers import Tokenizer

  theirs = Tokenizer.from_str(released_json)
  for text in ("the red dog is old", "a\n\nb  c", "it's 123 é", "\n the"):
    assert released.encode(text) == theirs.encode(text, add_special_tokens=False).ids


def test_counts_and_specials(released):
  assert released.num_ids == released.num_pieces + len(SPECIALS) + 1 + 64
  assert list(released.specials)[: len(SPECIALS)] == list(SPECIALS)
  assert released.specials["<|endoftext|>"] == released.num_pieces and not released.prefixes_space
  assert released.decode([released.specials["<|im_end|>"], *released.encode("the")]) == "the"


def test_added_tokens_that_are_text_stay(base_json):
  data = json.loads(base_json)
  free = HuggingFaceTokenizer(base_json).num_ids
  plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
  data["added_tokens"] += [{"id": free + i, "content": name, **plain} for i, name in enumerate(("ø", "    ", "<x>"))]
  tokenizer = HuggingFaceTokenizer(json.dumps(data))
  assert tokenizer.encode("ø")[0] == free and free + 1 in tokenizer.encode("the    dog")
  assert free + 2 not in tokenizer.encode("<x>") and tokenizer.specials["<x>"] == free + 2
  assert tokenizer.decode(tokenizer.encode("the    <x>")) == "the    <x>"


def test_a_model_whose_pieces_spell_a_special_token_is_refused():
  from tokenizers import Tokenizer, models

  pieces = [("<unk>", 0.0), ("</s>", -1.0), *[(c, -3.0) for c in "</s>ab "]]
  tokenizer = Tokenizer(models.Unigram(pieces, 0, False))
  tokenizer.add_special_tokens(["</s>"])
  with pytest.raises(UserError, match="becomes a special token: </s>"):
    HuggingFaceTokenizer(tokenizer.to_str())


def test_pickles_and_loads(released, released_json, tmp_path):
  copy = pickle.loads(pickle.dumps(released))
  assert copy.encode("the blue star") == released.encode("the blue star")
  (tmp_path / "tokenizer.json").write_text(released_json)
  assert HuggingFaceTokenizer.load(tmp_path / "tokenizer.json").fingerprint == released.fingerprint


def test_fingerprint_follows_the_text_part(released, base_json):
  assert HuggingFaceTokenizer(base_json).fingerprint == released.fingerprint, "units are not text"
  data = json.loads(base_json)
  data["model"]["merges"] = data["model"]["merges"][:-1]
  assert HuggingFaceTokenizer(json.dumps(data)).fingerprint != released.fingerprint


def test_errors_name_the_file(tmp_path):
  with pytest.raises(UserError, match=r"no tokenizer\.json"):
    HuggingFaceTokenizer.load(tmp_path / "tokenizer.json")
  for text in ("{", "[]", '{"model": {}}', '{"model": {"type": "BPE"}, "added_tokens": [{"id": 1}]}'):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(UserError, match=r"bad\.json"):
      HuggingFaceTokenizer.load(tmp_path / "bad.json")
