import pickle
import random

import pytest

from omni_jax.core.errors import UserError
from omni_jax.tokens.extension import extend_vocabulary
from omni_jax.tokens.text import SentencePieceTokenizer, encode_segments, joined, train_text_tokenizer
from omni_jax.tokens.vocabulary import CONTROLS


@pytest.mark.parametrize("alphabet", ["abc the dog", " \n\t{}\"'\\", "äß中文🙂é", "<|>_0123unit"])
def test_decoding_gives_back_any_text(tokenizer, alphabet):
  draw = random.Random(0)
  for length in range(1, 40):
    text = "".join(draw.choice(alphabet) for _ in range(length))
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_known_words_are_short(tokenizer):
  assert len(tokenizer.encode("the red dog is old")) <= 10


def test_text_cannot_spell_special_ids(tokenizer):
  for name in (*CONTROLS, "unk", "speech_5", "0x41"):
    for text in (f"<|{name}|>", f"<{name}>", name):
      ids = tokenizer.encode(text)
      assert tokenizer.decode(ids) == text
      assert len(ids) > 1 and all(0 < i < tokenizer.num_pieces for i in ids)


def train_model(**options):
  import io

  import sentencepiece

  model = io.BytesIO()
  texts = iter(["the red dog is old", "the blue star is new"] * 20)
  sentencepiece.SentencePieceTrainer.Train(
    sentence_iterator=texts, model_writer=model, vocab_size=300, byte_fallback=True, minloglevel=2, **options
  )
  return model.getvalue()


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_released_model_reads_its_own_symbols_as_text(kind):
  symbols = ["<|speech_5|>", "<|im_end|>", "dog"]
  model = train_model(model_type=kind, user_defined_symbols=symbols, hard_vocab_limit=False)
  tokenizer = SentencePieceTokenizer(model, added={"<|speech_6|>": 400})
  assert {"<s>", "</s>", "<unk>", "<|speech_6|>", *symbols} == set(tokenizer.specials) and tokenizer.num_ids == 401
  for name in (*tokenizer.specials, "the dog is<|speech_5|><|speech_5|> </s>"):
    ids = tokenizer.encode(name)
    assert tokenizer.decode(ids) == name
    assert not set(ids) & set(tokenizer.specials.values())
  assert pickle.loads(pickle.dumps(tokenizer)).num_ids == 401
  plain = SentencePieceTokenizer(train_model(model_type=kind, hard_vocab_limit=False))
  extended = extend_vocabulary(plain, end="</s>", codebook_size=16)
  assert extended.text_size == plain.num_pieces and not extended.pieces()[list(extended.specials.values())].any()


def test_texts_that_follow_each_other_are_one(tokenizer):
  assert joined(["a", "", "b", [1], [], [2], "c"]) == ["ab", [1, 2], "c"]
  assert encode_segments(["the ", "dog", [1]], tokenizer) == [*tokenizer.encode("the dog"), 1]


def test_pickles_and_loads(tokenizer, tmp_path):
  copy = pickle.loads(pickle.dumps(tokenizer))
  assert copy.encode("the blue star") == tokenizer.encode("the blue star")
  again = train_text_tokenizer(["a b c d"] * 9, path=tmp_path / "t.model", num_pieces=270)
  assert SentencePieceTokenizer.load(tmp_path / "t.model").encode("d a") == again.encode("d a")
  assert [path.name for path in tmp_path.iterdir()] == ["t.model"]


def test_errors_name_the_file(tmp_path):
  with pytest.raises(UserError, match="no text tokenizer"):
    SentencePieceTokenizer.load(tmp_path / "none.model")
  (tmp_path / "bad.model").write_bytes(b"not a model")
  with pytest.raises(UserError, match=r"bad\.model"):
    SentencePieceTokenizer.load(tmp_path / "bad.model")
  with pytest.raises(UserError, match="0 sentences"):
    train_text_tokenizer(["  "], path=tmp_path / "x.model", num_pieces=300)
  with pytest.raises(UserError, match="20 pieces"):
    train_text_tokenizer(["words"], path=tmp_path / "x.model", num_pieces=20)
