"""Expected strings are written out as EMOVA's conversation.py builds them, after what its tokenizers put first."""

import dataclasses

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.tokens.answers import JsonLayout, Reply
from omni_jax.tokens.dialogue import Dialogue, Question
from omni_jax.tokens.extension import extend_vocabulary
from omni_jax.tokens.templates import LLAMA_2, QWEN2, RESPOND, RESPOND_IN_LINES, TEMPLATES, TINY, VICUNA_V0, render

CURIOUS = (
  "A chat between a curious user and an artificial intelligence assistant. "
  "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
HUMAN = (
  "A chat between a curious human and an artificial intelligence assistant. "
  "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
PAIRS = [("Hi!", "Hello."), ("Who are\nyou?", "A model.")]
LAST = "Why?"

# name -> (the whole conversation of PAIRS, what the question LAST adds to it)
EXPECTED = {
  "qwen2": (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi!<|im_end|>\n"
    "<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nWho are\nyou?<|im_end|>\n"
    "<|im_start|>assistant\nA model.<|im_end|>\n",
    "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n",
  ),
  "qwen2_demo": (
    "<|im_start|>system\nYou are a helpful assistant. Your name is emova, and you are purely developed by the emova "
    "Team.<|im_end|>\n<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\n"
    "Who are\nyou?<|im_end|>\n<|im_start|>assistant\nA model.<|im_end|>\n",
    "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n",
  ),
  "mpt": (
    "<|im_start|>system\nA conversation between a user and an LLM-based AI assistant. The assistant gives helpful and "
    "honest answers.<|im_end|><|im_start|>user\nHi!<|im_end|><|im_start|>assistant\nHello.<|im_end|><|im_start|>user\n"
    "Who are\nyou?<|im_end|><|im_start|>assistant\nA model.<|im_end|>",
    "<|im_start|>user\nWhy?<|im_end|><|im_start|>assistant\n",
  ),
  "chatml_direct": (
    "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\nHi!<|im_end|><|im_start|>assistant\nHello."
    "<|im_end|><|im_start|>user\nWho are\nyou?<|im_end|><|im_start|>assistant\nA model.<|im_end|>",
    "<|im_start|>user\nWhy?<|im_end|><|im_start|>assistant\n",
  ),
  "llama3": (
    "<|begin_of_text|><|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n" + CURIOUS + "<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHi!<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello."
    "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nWho are\nyou?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nA model.<|eot_id|>",
    "<|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
  ),
  "deepseek": (
    "<｜begin▁of▁sentence｜>" + CURIOUS + "\n\n<|User|>: Hi!\n\n<|Assistant|>: Hello.<｜end▁of▁sentence｜>"
    "<|User|>: Who are\nyou?\n\n<|Assistant|>: A model.<｜end▁of▁sentence｜>",
    "<|User|>: Why?\n\n<|Assistant|>:",
  ),
  "plain": ("Hi!Hello.\nWho are\nyou?A model.\n", "Why?"),
  "v0": (
    "<s>" + HUMAN + "###Human: Hi!###Assistant: Hello.###Human: Who are\nyou?###Assistant: A model.###",
    "Human: Why?###Assistant:",
  ),
  "v1": (
    "<s>" + CURIOUS + " USER: Hi! ASSISTANT: Hello.</s>USER: Who are\nyou? ASSISTANT: A model.</s>",
    "USER: Why? ASSISTANT:",
  ),
  "mistral_instruct": (
    "<s>[INST] Hi! [/INST] Hello. </s>[INST] Who are\nyou? [/INST] A model. </s>",
    "[INST] Why? [/INST]",
  ),
  "glm4": (
    "[gMASK]<sop><|user|>\nHi!<|assistant|>\nHello.<|user|>\nWho are\nyou?<|assistant|>\nA model.<|user|>",
    "\nWhy?<|assistant|>",
  ),
  "phi3": (
    "<s><|system|>\n" + CURIOUS + "<|end|>\n<|user|>\nHi!<|end|>\n<|assistant|>\nHello.<|end|>\n<|user|>\nWho are\nyou?"
    "<|end|>\n<|assistant|>\nA model.<|end|>\n",
    "<|user|>\nWhy?<|end|>\n<|assistant|>\n",
  ),
}
ENDS = {"llama3": "<|eot_id|>", "deepseek": "<｜end▁of▁sentence｜>", "glm4": "<|user|>", "phi3": "<|end|>"}
ENDS |= dict.fromkeys(("v0", "v1", "llama_2", "mistral_instruct", "plain"), "</s>")


def make_dialogue(tokenizer, name):
  vocabulary = extend_vocabulary(tokenizer, end=ENDS.get(name, "<|im_end|>"), codebook_size=64, native=False)
  return Dialogue(vocabulary=vocabulary, tokenizer=tokenizer, template=TEMPLATES[name], layout=JsonLayout())


def written(pairs):
  return [(Question(text=asked), Reply(text=answer)) for asked, answer in pairs]


@pytest.mark.parametrize("name", EXPECTED)
def test_strings_of_the_release(name):
  whole, more = EXPECTED[name]
  assert render(TEMPLATES[name], PAIRS) == whole
  assert render(TEMPLATES[name], PAIRS, question=LAST) == whole + more
  assert "be big" in render(TEMPLATES[name], PAIRS, system="be big") or name == "glm4" or not TEMPLATES[name].system


def test_llama_2_has_its_system_text_inside_the_first_question():
  text = render(LLAMA_2, PAIRS, system="be big", question=LAST)
  first, *later = text.split("</s>")
  assert first == "<s>[INST] <<SYS>>\nbe big\n<</SYS>>\n\nHi! [/INST] Hello. "
  assert later == ["<s>[INST] Who are\nyou? [/INST] A model. ", "<s>[INST] Why? [/INST]"]
  assert render(LLAMA_2, [], question="Hi!").startswith("<s>[INST] <<SYS>>\nYou are a helpful, respectful and honest")


def test_every_template_has_a_test():
  assert set(TEMPLATES) == {*EXPECTED, "llama_2"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_ids_are_those_of_the_whole_text(name, released, released_json):
  from tokenizers import Tokenizer

  theirs = Tokenizer.from_str(released_json)
  grid = make_dialogue(released, name).conversation(written(PAIRS))
  assert grid.row.tolist() == theirs.encode(render(TEMPLATES[name], PAIRS), add_special_tokens=False).ids


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_given_is_the_prompt_and_what_is_learned_the_answer(name, released):
  dialogue = make_dialogue(released, name)
  for answers in (("Hello.", "A model."), ("\nHello.", " A\n"), ("the", "<|im_end|></s>")):
    pairs = [(asked, answer) for (asked, _), answer in zip(PAIRS, answers, strict=True)]
    grid = dialogue.conversation(written(pairs))
    for number, (asked, _) in enumerate(pairs):
      prompt = dialogue.prompt(Question(text=asked), history=written(pairs[:number]))
      assert grid.row[: len(prompt)].tolist() == prompt and not grid.learned[0, len(prompt) - 1]
      assert grid.learned[0, len(prompt)]
    starts = np.flatnonzero(np.diff(grid.learned[0].astype(int), prepend=0) == 1)
    ends = np.flatnonzero(np.diff(grid.learned[0].astype(int), append=0) == -1) + 1
    close = "".join(dialogue.template.assistant_close).strip()
    for (_, answer), start, end in zip(pairs, starts, ends, strict=True):
      said = grid.row[start:end]
      if name in ENDS and name not in ("v0", "plain"):
        assert dialogue.vocabulary.specials[close] in said
      if name != "plain" or "\n" not in answer:
        assert dialogue.read_text(said) == answer


def test_qwen2_learns_the_end_and_its_line(released):
  grid = make_dialogue(released, "qwen2").conversation(written(PAIRS[:1]))
  end = [released.specials["<|im_end|>"], *released.encode("\n")]
  assert grid.row[grid.learned[0]].tolist() == [*released.encode("Hello."), *end] and len(end) == 2


def test_llama3_begins_twice(released):
  prompt = make_dialogue(released, "llama3").prompt(Question(text="Hi!"))
  assert prompt[:2] == [released.specials["<|begin_of_text|>"]] * 2 and prompt[2] != prompt[1]


def test_requests_are_those_of_the_release(released, released_json):
  from tokenizers import Tokenizer

  theirs, dialogue = Tokenizer.from_str(released_json), make_dialogue(released, "qwen2")
  units = np.array([5, 60, 5], np.int32)
  spelt = "<|speech_5|><|speech_60|><|speech_5|>"
  style = Style("female", "happy", "high")
  reply = Reply(text="so", style=style, units=units, heard_text="why", heard_style=style)
  answer = (
    '{"user question text": "why", "user question emotion": "happy", "user question pitch": "high", '
    '"assistant response text": "so", "assistant response emotion": "happy", "assistant response pitch": "high", '
    f'"assistant response speech": "{spelt}"}}'
  )
  image = "<|im_start|>" * 3  # stands for the places of an image, which have no name in this tokenizer
  recognise = "Please recognize the text corresponding to the follwing speech.\n" + spelt
  synthesise = "Please synthesize the speech corresponding to the follwing text.\nthe dog"
  for grid, asked, said in (
    (dialogue.recognition(Question(units=units), "the dog"), recognise, "the dog"),
    (dialogue.synthesis("the dog", style, units), synthesise, spelt),
    (dialogue.conversation([(Question(units=units), reply)]), RESPOND + spelt, answer),
    (dialogue.conversation([(Question(units=units, image_tokens=3), reply)]), f"{image}\n{RESPOND}{spelt}", answer),
  ):
    ids = np.where(grid.row == dialogue.vocabulary.control("image"), released.specials["<|im_start|>"], grid.row)
    assert ids.tolist() == theirs.encode(render(QWEN2, [(asked, said)]), add_special_tokens=False).ids
  again = dialogue.read(grid.row[grid.learned[0]])
  assert (again.text, again.heard_text, again.problem) == ("so", "why", "") and again.units.tolist() == [5, 60, 5]


def test_the_request_for_an_answer_has_two_forms():
  assert RESPOND.count("\\n") == 7 and "\n" not in RESPOND
  assert RESPOND_IN_LINES.count("\n") == 7 and "\\" not in RESPOND_IN_LINES
  for text in (RESPOND, RESPOND_IN_LINES):
    assert '"assistant response pitch": ""，"assistant response speech": ""}' in text
    assert text.endswith("user question speech:") and text.startswith(
      "Please recognize the texts, emotion and pitch from"
    )


def test_a_template_of_another_base_is_refused(dialogue, released):
  with pytest.raises(UserError, match=r"the template spells '<\|im_end\|>'"):
    dataclasses.replace(dialogue, template=QWEN2)
  with pytest.raises(UserError, match="ends an answer with"):
    dataclasses.replace(make_dialogue(released, "qwen2"), template=TEMPLATES["llama3"])
  with pytest.raises(UserError, match=r"the template spells '<\|transcribe\|>'"):
    other = dataclasses.replace(TINY, assistant_close=("<|im_end|>",))
    dataclasses.replace(make_dialogue(released, "qwen2"), template=other).recognition_prompt(Question())


def test_a_stop_that_is_text_ends_the_answer(released):
  dialogue = make_dialogue(released, "v0")
  assert VICUNA_V0.assistant_close == ("###",)
  assert dialogue.read_text(released.encode(" the dog###Human: what")) == "the dog"


def test_sentencepiece_writes_the_space_before_an_answer_once(tokenizer):
  tokenizer = type(tokenizer)(tokenizer._model, added={"<s>": 300, "</s>": 301})
  assert tokenizer.prefixes_space
  grid = make_dialogue(tokenizer, "v1").conversation(written([("the dog", "old")]))
  assert grid.row[grid.learned[0]].tolist() == [*tokenizer.encode("old"), 301]
