import json

import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.generate.constraints import RULES, make_automaton
from omni_jax.tokens.extension import added_names, extend_vocabulary, load_tokenizer, read_unit_table, unit_name
from omni_jax.tokens.hugging_face import HuggingFaceTokenizer
from omni_jax.tokens.text import SentencePieceTokenizer
from omni_jax.tokens.vocabulary import STYLE_PARTS, Vocabulary


class Pretended(HuggingFaceTokenizer):
  """A tokenizer of a published size, without its file."""

  def __init__(self, *, num_pieces, specials):
    self.num_pieces, self.specials, self.fingerprint = num_pieces, specials, "0"
    self.num_ids = num_pieces + len(specials)


def qwen():
  names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|other_{i}|>" for i in range(19)))
  return Pretended(num_pieces=151_643, specials={name: 151_643 + i for i, name in enumerate(names)})


def test_qwen2_5_has_the_rows_of_the_release():
  for native in (False, True):
    vocabulary = extend_vocabulary(qwen(), end="<|im_end|>", native=native)
    assert (vocabulary.text_size, vocabulary.size) == (151_665, 155_776)
    assert (vocabulary.control("image"), vocabulary.control("pad"), vocabulary.control("end")) == (
      155_761,
      155_762,
      151_645,
    )
    assert vocabulary.unit_ids[[0, -1]].tolist() == [151_665, 155_760]
    assert vocabulary.used().sum() == 151_643 + 22 + 4096 + 2 + native * 11
  assert len(vocabulary.styles) == len(STYLE_PARTS)


def test_llama3_rows_are_a_multiple_too():
  names = {f"<|reserved_{i}|>": 128_000 + i for i in range(255)} | {"<|eot_id|>": 128_255}
  vocabulary = extend_vocabulary(Pretended(num_pieces=128_000, specials=names), end="<|eot_id|>", native=False)
  assert (vocabulary.text_size, vocabulary.unit_ids[-1] + 1) == (128_256, 132_352)
  assert vocabulary.size == 132_480 and vocabulary.size % 128 == 0


def test_scrambled_units_are_read(released, released_json, released_vocabulary):
  from tokenizers import Tokenizer

  theirs = Tokenizer.from_str(released_json)
  for unit in range(64):
    assert released_vocabulary.unit_ids[unit] == theirs.token_to_id(unit_name(unit))
  assert released_vocabulary.unit_ids.tolist() != sorted(released_vocabulary.unit_ids.tolist())
  assert released_vocabulary.text_size == released.num_ids - 64
  units = released_vocabulary.unit_of()
  np.testing.assert_array_equal(units[released_vocabulary.unit_ids], np.arange(64))


def test_a_unit_table_that_is_no_bijection_is_refused(released_json):
  def changed(function):
    data = json.loads(released_json)
    data["added_tokens"] = [function(token) for token in data["added_tokens"] if function(token)]
    return HuggingFaceTokenizer(json.dumps(data))

  def rename(old, new):
    return lambda token: token | {"content": new} if token["content"] == unit_name(old) else token

  with pytest.raises(UserError, match=r"1 units missing \(5\), 1 unknown \(64\)"):
    extend_vocabulary(changed(rename(5, unit_name(64))), end="<|im_end|>", codebook_size=64)
  with pytest.raises(UserError, match=r"64 units missing|units missing \(64, 65"):
    extend_vocabulary(changed(lambda token: token), end="<|im_end|>", codebook_size=128)
  with pytest.raises(UserError, match="1 ids and 0 units given twice"):
    specials = {unit_name(0): 300, unit_name(1): 300, "<e>": 299}
    extend_vocabulary(Pretended(num_pieces=299, specials=specials), end="<e>", codebook_size=2)
  with pytest.raises(UserError, match="1 units given twice"):
    specials = {unit_name(0): 300, "<|speech_00|>": 301, unit_name(1): 302, "<e>": 299}
    extend_vocabulary(Pretended(num_pieces=299, specials=specials), end="<e>", codebook_size=2)


def test_a_table_gives_units_their_ids(base_json, released, released_json, tmp_path):
  base = HuggingFaceTokenizer(base_json)
  (tmp_path / "tokenizer.json").write_text(released_json)
  table = read_unit_table(tmp_path)
  expected = extend_vocabulary(released, end="<|im_end|>", codebook_size=64)
  found = extend_vocabulary(base, end="<|im_end|>", codebook_size=64, table=table)
  assert found.unit_ids.tolist() == expected.unit_ids.tolist() and found.controls == expected.controls
  (tmp_path / "added_tokens.json").write_text(json.dumps(table))
  assert read_unit_table(tmp_path) == read_unit_table(tmp_path / "tokenizer.json")


def test_a_table_of_another_base_is_refused(base_json, tmp_path):
  base = HuggingFaceTokenizer(base_json)
  units = {unit_name(unit): base.num_ids + unit for unit in range(8)}

  def extend(changes):
    return extend_vocabulary(base, end="<|im_end|>", codebook_size=8, table=units | changes)

  assert extend({}).unit_ids[0] == base.num_ids
  with pytest.raises(UserError, match=r"<\|im_end\|>: 7, not"):
    extend({"<|im_end|>": 7})
  with pytest.raises(UserError, match=r"<\|speech_3\|>: 300 is taken"):
    extend({unit_name(3): 300})
  with pytest.raises(UserError, match="1 ids and 0 units given twice"):
    extend({unit_name(3): base.num_ids})
  with pytest.raises(UserError, match="none of its 1 tokens is a unit"):
    extend_vocabulary(base, end="<|im_end|>", codebook_size=8, table={"<pad>": base.num_ids})
  with pytest.raises(UserError, match="no unit table"):
    read_unit_table(tmp_path)
  (tmp_path / "added_tokens.json").write_text("[")
  with pytest.raises(UserError, match="cannot read the added tokens"):
    read_unit_table(tmp_path)


def test_image_and_pad_of_a_release_keep_their_ids():
  specials = {"<e>": 299, **{unit_name(i): 300 + i for i in range(4)}, "<pad>": 304, "<image>": 305}
  vocabulary = extend_vocabulary(Pretended(num_pieces=299, specials=specials), end="<e>", codebook_size=4, native=False)
  assert (vocabulary.control("pad"), vocabulary.control("image"), vocabulary.size) == (304, 305, 384)


def test_an_end_that_is_not_there_is_refused(released):
  with pytest.raises(UserError, match=r"no token '<\|nope\|>'"):
    extend_vocabulary(released, end="<|nope|>", codebook_size=64)


def test_round_trip_through_the_file(released_vocabulary, vocabulary, tmp_path):
  for one in (released_vocabulary, vocabulary):
    one.save(tmp_path / "vocabulary.json")
    again = Vocabulary.load(tmp_path / "vocabulary.json")
    assert again.fingerprint() == one.fingerprint()
    np.testing.assert_array_equal(again.used(), one.used())
  assert "specials" not in json.loads((tmp_path / "vocabulary.json").read_text())


def test_decoding_never_gives_an_unused_row(released):
  for native in (False, True):
    vocabulary = extend_vocabulary(released, end="<|im_end|>", codebook_size=64, native=native)
    automaton = make_automaton(vocabulary)
    states = jnp.array([automaton.state(name) for name in RULES])
    allowed = np.asarray(automaton.mask(states))
    assert (~vocabulary.used()).sum() > 0 and not allowed[:, ~vocabulary.used()].any()
    assert allowed[automaton.state("write")][: released.num_pieces].all(), "a byte-level model has no <unk> at 0"
    specials = [i for name, i in vocabulary.specials.items() if name != "<|im_end|>"]
    assert not allowed[:, specials].any()


def test_other_programs_read_the_extended_tokenizer(base_json):
  from transformers import PreTrainedTokenizerFast

  base = HuggingFaceTokenizer(base_json)
  vocabulary = extend_vocabulary(base, end="<|im_end|>", codebook_size=64)
  names = added_names(vocabulary)
  from tokenizers import Tokenizer

  theirs = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(base.extended(names)))
  assert {name: theirs.convert_tokens_to_ids(name) for name in names} == names
  assert theirs("<|speech_3|>a<|speech_9|>").input_ids[::2] == vocabulary.unit_ids[[3, 9]].tolist()
  again = extend_vocabulary(HuggingFaceTokenizer(base.extended(names)), end="<|im_end|>", codebook_size=64)
  assert again.unit_ids.tolist() == vocabulary.unit_ids.tolist() and again.controls["image"] == names["<image>"]
  with pytest.raises(UserError, match="without a hole"):
    base.extended({"<|new|>": base.num_ids + 1})


def test_a_folder_has_one_of_two_tokenizers(tmp_path, tokenizer, released, released_json):
  (tmp_path / "tokenizer.model").write_bytes(tokenizer._model)
  ids = {unit_name(unit): 300 + (unit * 5) % 8 for unit in range(8)}
  (tmp_path / "added_tokens.json").write_text(json.dumps(ids))
  loaded = load_tokenizer(tmp_path)
  assert isinstance(loaded, SentencePieceTokenizer) and loaded.num_ids == 308
  assert loaded.specials == {"<unk>": 0} | ids
  (tmp_path / "tokenizer.json").write_text(released_json)
  with pytest.raises(UserError, match="8 tokens with other ids"):
    load_tokenizer(tmp_path)
  (tmp_path / "added_tokens.json").write_text(json.dumps(dict(released.specials)))
  assert load_tokenizer(tmp_path).fingerprint == released.fingerprint
  (tmp_path / "added_tokens.json").write_text("[1]")
  with pytest.raises(UserError, match="not a table"):
    load_tokenizer(tmp_path)
