import pytest

from omni_jax.tokens.answers import NativeLayout
from omni_jax.tokens.dialogue import Dialogue
from omni_jax.tokens.extension import extend_vocabulary
from omni_jax.tokens.hugging_face import HuggingFaceTokenizer
from omni_jax.tokens.templates import TINY
from omni_jax.tokens.text import SentencePieceTokenizer, train_text_tokenizer
from omni_jax.tokens.vocabulary import Vocabulary, make_vocabulary
from tests.tokens.trained import SENTENCES, train_json


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
