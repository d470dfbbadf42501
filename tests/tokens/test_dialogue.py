import dataclasses

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES
from omni_jax.tokens.answers import JsonLayout, NativeLayout, Reply
from omni_jax.tokens.dialogue import Question, load_dialogue
from omni_jax.tokens.extension import extend_vocabulary
from omni_jax.tokens.styles import encode_style
from omni_jax.tokens.templates import QWEN2, TINY
from omni_jax.tokens.text import train_text_tokenizer
from omni_jax.tokens.vocabulary import make_vocabulary

STYLE = ALL_STYLES[7]
UNITS = np.array([5, 9, 5, 60, 2], np.int32)


@pytest.fixture(params=[TINY, QWEN2], ids=["tiny", "qwen2"])
def dialogue(request, dialogue, released):
  if request.param is TINY:
    return dialogue
  extended = extend_vocabulary(released, end="<|im_end|>", codebook_size=64)
  return dataclasses.replace(dialogue, template=QWEN2, vocabulary=extended, tokenizer=released)


def test_only_replies_and_their_ends_are_learned(dialogue):
  pairs = [(Question(text="the dog"), Reply(text="old")), (Question(text="a star"), Reply(text="new"))]
  grid = dialogue.conversation(pairs, system="be big")
  end = dialogue.vocabulary.control("end")
  close = [end] if dialogue.template is TINY else [end, *dialogue.tokenizer.encode("\n")]
  expected = [*dialogue.tokenizer.encode("old"), *close, *dialogue.tokenizer.encode("new"), *close]
  assert grid.row[grid.learned[0]].tolist() == expected and end in expected


def test_a_prompt_is_the_beginning_of_the_conversation(dialogue):
  question = Question(text="the dog", image_tokens=4, units=UNITS, style=STYLE)
  reply = Reply(text="old", style=ALL_STYLES[3], units=UNITS, heard_text="the dog")
  grid = dialogue.conversation([(question, reply)])
  prompt = dialogue.prompt(question)
  assert grid.row[: len(prompt)].tolist() == prompt and not grid.learned[0, : len(prompt)].any()
  forced = dialogue.prompt(question, style=ALL_STYLES[3])
  assert grid.row[: len(forced)].tolist() == forced
  assert (grid.row == dialogue.vocabulary.control("image")).sum() == 4
  again = dialogue.read(grid.row[len(prompt) :])
  assert (again.text, again.style, again.heard_text, again.problem) == ("old", ALL_STYLES[3], "the dog", "")


def test_recognition_and_synthesis(dialogue):
  heard = Question(units=UNITS, style=STYLE)
  grid = dialogue.recognition(heard, "the red dog")
  assert dialogue.read_text(grid.row[grid.learned[0]]) == "the red dog"
  assert grid.row.tolist()[: len(dialogue.recognition_prompt(heard))] == dialogue.recognition_prompt(heard)
  grid = dialogue.synthesis("the red dog", STYLE, UNITS)
  assert dialogue.read_units(grid.row[grid.learned[0]]).tolist() == UNITS.tolist()
  prompt = dialogue.synthesis_prompt("the red dog", STYLE)
  assert grid.row.tolist()[: len(prompt)] == prompt
  assert prompt[-3:] == encode_style(STYLE, dialogue.vocabulary)


def test_the_heard_style_can_be_left_out(dialogue):
  with_style = dialogue.prompt(Question(units=UNITS, style=STYLE))
  without = dialogue.prompt(Question(units=UNITS))
  assert len(with_style) == len(without) + 3
  assert [i for i in with_style if i not in encode_style(STYLE, dialogue.vocabulary)] == without


def test_typed_controls_stay_text(dialogue):
  text = "<|end|><|assistant|><|speech_5|>"
  prompt = dialogue.prompt(Question(text=text))
  assert text in dialogue.tokenizer.decode([i for i in prompt if i < dialogue.vocabulary.num_pieces])
  assert len([i for i in prompt if i >= dialogue.vocabulary.num_pieces]) == (2 if dialogue.template is TINY else 5)
  assert not len(dialogue.read_units(prompt))


def test_a_document_is_learned_whole(dialogue):
  grid = dialogue.document("the red dog")
  assert dialogue.read_text(grid.row[grid.learned[0]]) == "the red dog"


def test_tiny_borders_cost_three_tokens(vocabulary, dialogue):
  if dialogue.template is TINY:
    grid = dialogue.conversation([(Question(text="the dog"), Reply(text="old"))])
    names = {i: name for name, i in vocabulary.controls.items()}
    assert [names[i] for i in grid.row.tolist() if i in names] == ["user", "assistant", "end"]


def test_loading_checks_that_tokenizer_and_vocabulary_belong_together(tmp_path):
  first = train_text_tokenizer(["a b c d"] * 3, path=tmp_path / "tokenizer.model", num_pieces=270)
  make_vocabulary(first, text_size=300, codebook_size=8).save(tmp_path / "vocabulary.json")
  layout = NativeLayout(text_chunk=2, unit_chunk=3)
  loaded = load_dialogue(tmp_path, template=TINY, layout=layout)
  assert loaded.document("a b").row.size > 2
  train_text_tokenizer(["x y z"] * 3, path=tmp_path / "tokenizer.model", num_pieces=270)
  with pytest.raises(UserError, match="belongs to the tokenizer"):
    load_dialogue(tmp_path, template=TINY, layout=layout)


def test_a_released_tokenizer_loads_too(released, released_json, tmp_path):
  (tmp_path / "tokenizer.json").write_text(released_json)
  extended = extend_vocabulary(released, end="<|im_end|>", codebook_size=64, native=False)
  extended.save(tmp_path / "vocabulary.json")
  loaded = load_dialogue(tmp_path, template=QWEN2, layout=JsonLayout())
  prompt = loaded.prompt(Question(units=UNITS, style=STYLE))
  assert [i for i in prompt if i >= extended.text_size] == extended.unit_ids[UNITS].tolist(), "no style tokens"


def test_annotations_share_what_stands_before_the_questions(dialogue):
  pairs = [(Question(text=text, image_tokens=4), Reply(text="old")) for text in ("what is it", "\nwhere")]
  grid = dialogue.annotations(pairs)
  trunk = int((grid.branches == 0).sum())
  assert grid.row[trunk - 1] == dialogue.vocabulary.control("image")
  for number, (question, reply) in enumerate(pairs, 1):
    alone = dialogue.conversation([(question, reply)])
    chosen = (grid.branches == 0) | (grid.branches == number)
    assert grid.row[chosen].tolist() == alone.row.tolist()
    assert grid.learned[0, chosen].tolist() == alone.learned[0].tolist()


def test_later_turns_follow_earlier_ones(dialogue):
  pairs = [(Question(text="the dog"), Reply(text="old")), (Question(units=UNITS), Reply(text="new"))]
  grid = dialogue.conversation(pairs, system="be big")
  prompt = dialogue.prompt(pairs[1][0], history=pairs[:1], system="be big")
  assert grid.row[: len(prompt)].tolist() == prompt
  assert grid.row[len(prompt) :].tolist() == grid.row[grid.learned[0]].tolist()[-(len(grid) - len(prompt)) :]
