import random

import pytest

from omni_jax.tokens.answers import NativeLayout
from omni_jax.tokens.dialogue import Dialogue
from omni_jax.tokens.extension import extend_vocabulary
from omni_jax.tokens.hugging_face import HuggingFaceTokenizer
from omni_jax.tokens.templates import TINY
from omni_jax.tokens.text import SentencePieceTokenizer, train_text_tokenizer
from omni_jax.tokens.vocabulary import Vocabulary, make_vocabulary

SENTENCES = [
  f"the {a} {b} is {c}" for a in ("red", "blue", "big") for b in ("dog", "star", "house") for c in ("old", "new")
]


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory) -> SentencePieceTokenizer:
  return train_text_tokenizer(SENTENCES * 3, path=tmp_path_factory.mktemp("text") / "tokenizer.model", num_pieces=300)


@pytest.fixture(scope="session")
def vocabulary(tokenizer) -> Vocabulary:
  return make_vocabulary(tokenizer, text_size=320, codebook_size=64)


@pytest.fixture
def dialogue(vocabulary, tokenizer) -> Dialogue:
  layout = NativeLayout(text_chunk=2, unit_chunk=3)
  return Dialogue(vocabulary=vocabulary, tokenizer=tokenizer, template=TINY, layout=layout)


# The special tokens of several families, so that one small tokenizer serves every template.
SPECIALS = (
  *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<|begin_of_text|>", "<|start_header_id|>"),
  *("<|end_header_id|>", "<|eot_id|>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<|User|>", "<|Assistant|>"),
  *("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
)
CUT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def train_json(units=0):
  """A byte-level tokenizer in the manner of Qwen2, with units in an order of chance."""
  from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

  tokenizer = Tokenizer(models.BPE())
  tokenizer.normalizer = normalizers.NFC()
  byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(CUT), "isolated"), byte_level])
  tokenizer.decoder = decoders.ByteLevel()
  alphabet = pre_tokenizers.ByteLevel.alphabet()
  trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
  tokenizer.train_from_iterator([text + "\n\n" for text in SENTENCES] * 3, trainer)
  tokenizer.add_special_tokens(list(SPECIALS))
  tokenizer.add_tokens(["<tool_call>"])
  scrambled = random.Random(0).sample(range(units), units)
  flags = {"single_word": True, "lstrip": False, "rstrip": False, "normalized": True}
  tokenizer.add_tokens([AddedToken(f"<|speech_{unit}|>", **flags) for unit in scrambled])
  return tokenizer.to_str()


@pytest.fixture(scope="session")
def base_json() -> str:
  return train_json()


@pytest.fixture(scope="session")
def released_json() -> str:
  return train_json(units=64)


@pytest.fixture(scope="session")
def released(released_json) -> HuggingFaceTokenizer:
  return HuggingFaceTokenizer(released_json)


@pytest.fixture(scope="session")
def released_vocabulary(released) -> Vocabulary:
  return extend_vocabulary(released, end="<|im_end|>", codebook_size=64, native=False)
