import dataclasses

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.tokens import speech_gpt as own
from omni_jax.tokens.speech_gpt import Chain, Side, SpeechGPTWriter, parse_answer, speech_gpt_vocabulary


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
  return speech_gpt_vocabulary(tokenizer, num_units=20)


def writer(tokenizer, vocabulary, template=own.PAPER):
  return SpeechGPTWriter(vocabulary=vocabulary, tokenizer=tokenizer, template=template)


class Llama:
  """As far as a vocabulary needs it: 32,000 pieces, three of which text never gives."""

  num_pieces = num_ids = 32_000
  specials = {"<unk>": 0, "<s>": 1, "</s>": 2}  # noqa: RUF012
  fingerprint = "llama"


def test_ids_behind_llama_are_those_of_the_release():
  vocabulary = speech_gpt_vocabulary(Llama())
  assert (vocabulary.unit_ids[0], vocabulary.unit_ids[999]) == (32_000, 32_999)
  assert [vocabulary.specials[name] for name in own.MARKS] == list(range(33_000, 33_006))
  assert (vocabulary.size, vocabulary.text_size) == (33_006, 32_000)
  assert [vocabulary.control(name) for name in ("pad", "start", "end")] == [0, 1, 2]


def test_ids_that_a_release_states_are_kept():
  class Released(Llama):
    num_ids = 32_026
    specials = Llama.specials | {f"<{19 - i}>": 32_000 + i for i in range(20)}
    specials |= {name: 32_020 + i for i, name in enumerate(own.MARKS)}

  vocabulary = speech_gpt_vocabulary(Released(), num_units=20)
  assert vocabulary.unit_ids.tolist() == list(range(32_019, 31_999, -1)) and vocabulary.size == 32_026
  with pytest.raises(UserError, match="20 of 30 units"):
    speech_gpt_vocabulary(Released(), num_units=30)


QUESTION, ANSWER = Side("the dog", np.array([3, 3, 7])), Side("is old", np.array([5, 1]))
SPEECH, REPLY = "<sosp><3><7><eosp>", "<sosp><5><1><eosp>"


@pytest.mark.parametrize(
  ("template", "asked", "answered"),
  [
    (own.RELEASED, f"[Human]: {SPEECH}<eoh> [SpeechGPT]: ", "<eoa> "),
    (own.RELEASED_CHAIN, f"[Human]: {SPEECH}<eoh>. [SpeechGPT]: ", "<eoa>."),
    (own.INFERENCE, f"[Human]: {SPEECH} <eoh>. [SpeechGPT]: ", "<eoa>."),
  ],
)
def test_templates_are_written_to_the_letter(tokenizer, vocabulary, template, asked, answered):
  write = writer(tokenizer, vocabulary, dataclasses.replace(template, system="the\n"))
  chain = write.chain(Chain.SPEECH_TO_SPEECH, QUESTION, ANSWER)
  grid = write.exchange(write.speech(QUESTION.units), chain)
  spelt = write.spell(grid.row.tolist()).replace(" ", "")
  whole = f"<s>the\n{asked}the dog; [ta] is old; [ua] {REPLY}{answered}</s>"
  assert spelt == whole.replace(" ", "")
  prefix = len(write.prompt([])) - len(write._ids(write._asking([])))
  assert not grid.learned[0, :prefix].any() and grid.learned[0, prefix:].all()  # the question is learned too
  asking = write.prompt(write.speech(QUESTION.units))
  assert write.spell(asking).replace(" ", "") == f"<s>the\n{asked}".replace(" ", "")


@pytest.mark.parametrize("chain", Chain)
@pytest.mark.parametrize("marked", [True, False])
def test_the_answer_of_every_chain_reads_back(tokenizer, vocabulary, chain, marked):
  write = writer(tokenizer, vocabulary, dataclasses.replace(own.PAPER, marks_question=marked))
  grid = write.exchange(write.request(chain, QUESTION), write.chain(chain, QUESTION, ANSWER))
  start = len(write.prompt(write.request(chain, QUESTION)))
  assert grid.row[:start].tolist() == write.prompt(write.request(chain, QUESTION))
  reply = write.read(grid.row[start:])
  assert reply.problem == "" and reply.text.strip() == "is old"
  assert reply.heard_text.strip() == ("the dog" if chain.hears else "")
  assert reply.units.tolist() == ([5, 1] if chain.speaks else [])
  spelt = write.spell(write.prompt(write.request(chain, QUESTION)))
  assert ("<sosp><3><7><eosp>" in spelt) == chain.hears
  assert ("the dog" in spelt) != chain.hears


def test_lines_are_learned_whole_and_typed_markers_are_text(tokenizer, vocabulary):
  write = writer(tokenizer, vocabulary)
  line = write.line(np.array([4, 4, 9]))
  assert write.spell(line.row.tolist()) == "<s><sosp><4><9><eosp>" and line.learned[0].tolist() == [False, *[True] * 4]
  typed = write.prompt(["<sosp><3><eosp>[Human]</s>"])
  marks = {vocabulary.specials[name] for name in ("<sosp>", "<eosp>", "</s>")} | set(vocabulary.unit_ids.tolist())
  assert not marks & set(typed) and typed.count(vocabulary.specials["[Human]"]) == 1


@pytest.mark.parametrize(
  ("text", "heard", "said", "units", "problem"),
  [
    ("[tq] a b; [ta] c d; [ua] <sosp><1><2><eosp><eoa>.", "a b", "c d", [1, 2], ""),
    ("a b ; [ta]c d;[ua]<sosp> <1> <2> <eosp> <eoa>", "a b", "c d", [1, 2], ""),
    ("c d<eoa>", "", "c d", [], ""),
    ("<sosp><1><eosp><eoa>", "", "", [1], ""),
    ("a; [ta] c; <sosp><1><eosp><eoa>", "a", "c", [1], "speech without [ua]"),
    ("a; [ta] c; [ua] <eoa>", "a", "c", [], "[ua] without speech"),
    ("a; [ta] c; [ua] <sosp><1><2>", "a", "c", [1, 2], "no <eoa>; speech without an end"),
    ("a; [ta] c; [ua] <sosp><eosp><eoa>", "a", "c", [], "speech without units"),
    ("a; [ta] c; [ua] <sosp><1> x <eosp><eoa>", "a", "c", [1], "text in speech"),
    ("<sosp><1><9999999999><eosp><eoa>", "", "", [1], "text in speech"),
    ("<eosp><1><sosp><eoa>", "", "<eosp><1>", [], "speech without units; markers of speech out of order"),
    ("[ua] a [ta] c<eoa>", "[ua] a", "c", [], "markers out of order"),
    ("", "", "", [], "no <eoa>"),
  ],
)
def test_answers_are_parsed_and_their_faults_told(text, heard, said, units, problem):
  reply = parse_answer(text)
  assert (reply.heard_text, reply.text, reply.units.tolist(), reply.problem) == (heard, said, units, problem)


def test_speech_that_cannot_be_written_is_refused(tokenizer, vocabulary):
  write = writer(tokenizer, vocabulary)
  with pytest.raises(UserError, match="unit 20"):
    write.speech(np.array([1, 20]))
  with pytest.raises(UserError, match="speech without units"):
    write.speech(np.array([], np.int32))
  with pytest.raises(UserError, match="'is old' without units"):
    write.chain(Chain.TEXT_TO_SPEECH, QUESTION, Side("is old"))
