import pytest

from omni_jax.tokens.answers import NativeLayout
from omni_jax.tokens.dialogue import Dialogue
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
