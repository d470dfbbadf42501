import pytest

from omni_jax.build.vocabulary import VocabularyConfig, build_vocabulary
from omni_jax.core.errors import UserError
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.writer import write_split
from omni_jax.tokens.text import SentencePieceTokenizer

CONFIG = VocabularyConfig(text_size=320, codebook_size=16, sets=("text",))


@pytest.fixture
def workdir(tmp_path):
  words = ("red", "green", "blue", "dog", "cat", "bird", "runs", "sleeps", "near", "under")
  texts = [f"the {a} {b} {c}" for a in words for b in words for c in words[:5]]
  examples = [Example(id=f"text/{i}", task="text", turns=(Turn("assistant", text),)) for i, text in enumerate(texts)]
  write_split(tmp_path / "corpus" / "text", "train", examples)
  return tmp_path


def test_the_corpus_becomes_a_tokenizer_and_ids_that_are_kept(workdir):
  first = build_vocabulary(CONFIG, workdir)
  assert first.text_size == 320 and first.codebook_size == 16
  tokenizer = SentencePieceTokenizer.load(workdir / "text" / "tokenizer.model")
  assert tokenizer.decode(tokenizer.encode("the red dog sleeps")) == "the red dog sleeps"
  assert build_vocabulary(CONFIG, workdir).fingerprint() == first.fingerprint()


def test_another_size_in_the_same_folder_is_refused(workdir):
  build_vocabulary(CONFIG, workdir)
  with pytest.raises(UserError, match="one working folder has one vocabulary"):
    build_vocabulary(VocabularyConfig(text_size=336, codebook_size=16, sets=("text",)), workdir)


def test_a_missing_corpus_is_told(tmp_path):
  with pytest.raises(UserError):
    build_vocabulary(CONFIG, tmp_path)
