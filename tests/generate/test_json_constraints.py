"""Answers in EMOVA's JSON under constraints: what the layout writes passes, and whatever passes reads back."""

import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core.styles import ALL_STYLES
from omni_jax.generate import json_constraints as module
from omni_jax.generate.constraints import RULES
from omni_jax.generate.json_constraints import OBJECT, OBJECT_OR_TEXT, json_automaton
from omni_jax.tokens.answers import JsonLayout, Reply
from tests.generate.automata import walk

UNITS = np.array([3, 3, 7], np.int32)


@pytest.fixture(scope="module")
def automaton(dialogue):
  return json_automaton(dialogue)


@pytest.mark.parametrize(
  "reply",
  [
    Reply(text="the dog is old", style=ALL_STYLES[3], units=UNITS, heard_text="the star", heard_style=ALL_STYLES[5]),
    Reply(text="the dog", style=ALL_STYLES[7], units=UNITS, speed="slow"),
    Reply(text="a b", style=ALL_STYLES[0], units=UNITS, emotion="fearful", heard_text='so "he" said \\ yes'),
    Reply(text="the dog is old"),
    Reply(text="a line\nand another"),
  ],
)
def test_every_written_answer_may_be_generated(automaton, dialogue, reply):
  options = {"vocabulary": dialogue.vocabulary, "tokenizer": dialogue.tokenizer}
  ids = JsonLayout().encode(reply, **options)
  assert JsonLayout().decode(ids, **options).problem == ""
  ids.append(dialogue.vocabulary.control("end"))
  assert walk(automaton, OBJECT_OR_TEXT, ids) and walk(automaton, OBJECT, ids) == (reply.style is not None)


def test_other_answers_are_decoded_as_without_json(automaton, dialogue):
  end, unit = dialogue.vocabulary.control("end"), int(dialogue.vocabulary.unit_ids[2])
  assert set(RULES) < set(automaton.states)
  assert walk(automaton, "write", [*dialogue.tokenizer.encode("the dog is old"), end])
  assert walk(automaton, "voice", [unit, end]) and not walk(automaton, "voice", [end])


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_chosen_at_random_reads_back(automaton, dialogue, seed):
  draw, end = np.random.default_rng(seed), dialogue.vocabulary.control("end")
  states, ids = jnp.array([automaton.state(OBJECT if seed else OBJECT_OR_TEXT)]), []
  most = int(automaton.distance[automaton.state("user question text")]) + 60
  while int(states[0]):
    mask = np.asarray(automaton.mask(states, left=most - len(ids)))[0]
    ids.append(int(draw.choice(np.flatnonzero(mask))))
    states = automaton.advance(states, jnp.array(ids[-1:]))
  assert ids.pop() == end and len(ids) < most
  reply = JsonLayout().decode(ids, vocabulary=dialogue.vocabulary, tokenizer=dialogue.tokenizer)
  assert reply.problem == "" and (not seed or len(reply.units))


def test_pieces_by_the_ten_thousands_lead_where_their_characters_do_one_after_the_other():
  draw, machine = np.random.default_rng(0), module._characters(spaced=True)
  states = list(dict.fromkeys([*machine, *(after for row in machine.values() for after in row.values())]))
  alphabet = np.array([*'esx{":, }\\\né中'])
  texts = ["".join(draw.choice(alphabet, draw.integers(0, 6))) for _ in range(20_000)]
  columns = list(module._columns(machine, states, texts))
  assert len(columns) == len(texts)

  def walked(state, text):
    for character in text:
      row = machine.get(state, {})
      state = row.get(character, row.get("printed" if character >= " " else "control"))
      if state is None:
        return -1
    return states.index(state) if text else -1

  for place in range(0, len(texts), 199):
    walks = [walked(state, texts[place]) for state in states]
    np.testing.assert_array_equal(np.frombuffer(columns[place], np.int32), walks)
