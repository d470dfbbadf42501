"""Answers of SpeechGPT under constraints: what the writer writes passes, and whatever passes reads back."""

import dataclasses

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.generate.chain_constraints import SAYS, WRITES, chain_automaton, chain_state, cross_modal_automaton
from omni_jax.tokens import speech_gpt as own
from omni_jax.tokens.speech_gpt import Chain, Side, SpeechGPTWriter, speech_gpt_vocabulary
from tests.generate.automata import walk

QUESTION, ANSWER = Side("the dog", np.array([3, 3, 7])), Side("is old", np.array([5, 1]))


@pytest.fixture(scope="module")
def writer(dialogue):
  vocabulary = speech_gpt_vocabulary(dialogue.tokenizer, num_units=20)
  template = dataclasses.replace(own.PAPER, system="the\n")
  return SpeechGPTWriter(vocabulary=vocabulary, tokenizer=dialogue.tokenizer, template=template)


@pytest.mark.parametrize("chain", Chain)
@pytest.mark.parametrize("template", [own.PAPER, own.RELEASED_CHAIN])
def test_every_written_chain_may_be_generated(writer, chain, template):
  write = dataclasses.replace(writer, template=template)
  ids = write.answer(write.chain(chain, QUESTION, ANSWER))
  automaton = chain_automaton(write)
  assert walk(automaton, chain_state(chain), ids)
  others = [other for other in Chain if (other.hears, other.speaks) != (chain.hears, chain.speaks)]
  assert not any(walk(automaton, chain_state(other), ids) for other in others)


def test_cross_modal_answers_may_be_generated(writer):
  write = dataclasses.replace(writer, template=own.RELEASED)
  automaton, end = cross_modal_automaton(write), write.vocabulary.control("end")
  for state, answered in ((WRITES, ["the dog is old"]), (SAYS, write.speech(ANSWER.units))):
    assert walk(automaton, state, write.answer(answered))
    assert not walk(automaton, state, [end])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("chain", Chain)
def test_whatever_is_chosen_at_random_reads_back(writer, chain, seed):
  automaton, draw = chain_automaton(writer), np.random.default_rng(seed)
  state, ids = automaton.state(chain_state(chain)), []
  allowed, following = np.asarray(automaton.allowed), np.asarray(automaton.following)
  classes = np.asarray(automaton.classes)
  while state:
    kinds = np.flatnonzero(allowed[state])  # a class first, so that markers come soon
    tokens = np.flatnonzero(classes == draw.choice([kind for kind in kinds if (classes == kind).any()]))
    token = int(draw.choice(tokens))
    state = int(following[state, classes[token]])
    ids.append(token)
  reply = writer.read(ids)
  assert reply.problem == "" and bool(len(reply.units)) == chain.speaks


def test_a_tokenizer_that_swallows_markers_is_refused(writer):
  class Whole:
    num_pieces, prefixes_space, specials = writer.tokenizer.num_pieces, True, {}

    def encode(self, text):
      return [5]

    def decode(self, ids):
      return "everything at once"

  with pytest.raises(UserError, match="the marker"):
    chain_automaton(dataclasses.replace(writer, tokenizer=Whole()))
