import pytest

from omni_jax.batches.meanings import KINDS, layout_meanings, vocabulary_meanings
from omni_jax.core.styles import Style
from omni_jax.tokens.extension import load_tokenizer
from omni_jax.tokens.mini_omni import MiniOmniLayout
from omni_jax.tokens.speech_gpt import speech_gpt_vocabulary
from omni_jax.tokens.vocabulary import Vocabulary

LAYOUT = MiniOmniLayout(num_pieces=330, text_size=384, num_codes=12, codebook_size=76)


@pytest.fixture
def tokenizer(workdir):
  return load_tokenizer(workdir / "text")


def test_ids_of_a_vocabulary_have_their_names(workdir, tokenizer):
  vocabulary = Vocabulary.load(workdir / "text" / "vocabulary.json")
  meaning = vocabulary_meanings(vocabulary, tokenizer)
  assert meaning(vocabulary.control("image")) == ("image", "image")
  assert meaning(vocabulary.control("user")) == ("control", "user")
  assert meaning(int(vocabulary.unit_ids[17])) == ("unit", "17")
  assert meaning(vocabulary.styles["emotion-happy"]) == ("style", "emotion-happy")
  (piece,) = tokenizer.encode("dog")[-1:]
  assert meaning(piece) == ("text", tokenizer.decode([piece]))
  unused = vocabulary.size - 1
  assert meaning(unused) == ("none", f"#{unused}")


def test_a_vocabulary_without_images_and_styles_has_its_marks(tokenizer):
  vocabulary = speech_gpt_vocabulary(tokenizer, num_units=64)
  meaning = vocabulary_meanings(vocabulary, tokenizer)
  assert meaning(vocabulary.specials["<sosp>"]) == ("control", "<sosp>")
  assert meaning(int(vocabulary.unit_ids[63])) == ("unit", "63")
  assert {meaning(token).kind for token in range(vocabulary.size)} <= set(KINDS)


def test_every_row_of_a_layout_has_its_own_units_and_marks(tokenizer):
  meaning = layout_meanings(LAYOUT, tokenizer)
  for row in LAYOUT.audio_rows:
    assert [meaning(row.first + entry).name for entry in range(3)] == ["0", "1", "2"]
    assert meaning(row.first + row.num_codes - 1).kind == "unit"
    assert meaning(row.first + row.end) == ("control", "end") and meaning(row.first + row.pad) == ("control", "pad")
    assert meaning(row.first + LAYOUT.place).kind == "heard"
  assert meaning(LAYOUT.text_mark("answer")) == ("control", "answer")
  styles = LAYOUT.style_marks(Style.parse("male-sad-low"))
  assert [meaning(token) for token in styles] == [
    ("style", name) for name in ("gender-male", "emotion-sad", "pitch-low")
  ]
  assert meaning(tokenizer.num_pieces).kind == "none", "the layout has room for more pieces than there are"
  assert meaning(tokenizer.num_pieces - 1).kind == "text"
