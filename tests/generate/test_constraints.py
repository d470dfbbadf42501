import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core.styles import ALL_STYLES
from omni_jax.generate.constraints import RULES, make_automaton
from omni_jax.tokens.answers import Reply
from omni_jax.tokens.vocabulary import NONE
from tests.generate.automata import walk


def test_every_written_answer_may_be_generated(dialogue):
  automaton, end = make_automaton(dialogue.vocabulary), dialogue.vocabulary.control("end")
  options = {"vocabulary": dialogue.vocabulary, "tokenizer": dialogue.tokenizer}
  units = np.arange(7, dtype=np.int32)
  for reply, state in (
    (Reply(text="the dog is old", style=ALL_STYLES[3], units=units, heard_text="the star"), "gender"),
    (Reply(text="the dog is old"), "write"),
  ):
    assert walk(automaton, state, [*dialogue.layout.encode(reply, **options), end])
  typed = dialogue.layout.encode(Reply(text="the dog", style=ALL_STYLES[0], units=units), **options)
  assert walk(automaton, "said", [*typed[3:], end])
  assert not walk(automaton, "said", [*typed, end])
  assert walk(automaton, "voice", [*dialogue.vocabulary.unit_ids[units].tolist(), end])
  assert not walk(automaton, "voice", [end]), "speech has at least one unit"


def test_rows_without_meaning_are_never_allowed_and_no_state_is_a_dead_end(dialogue):
  automaton = make_automaton(dialogue.vocabulary)
  for state in RULES:
    mask = np.asarray(automaton.mask(jnp.array([automaton.state(state)])))[0]
    assert mask.any() and not mask[dialogue.vocabulary.kinds() == NONE].any()
    assert not mask[dialogue.vocabulary.control("image")]


@pytest.mark.parametrize("state", RULES)
def test_every_answer_can_end(state):
  reached, frontier = {state}, [state]
  while frontier:
    for after in RULES[frontier.pop()].values():
      frontier += [after] if after not in reached else []
      reached.add(after)
  assert "over" in reached


def test_an_answer_that_runs_on_is_closed_in_time(dialogue):
  automaton, draw = make_automaton(dialogue.vocabulary), np.random.default_rng(0)
  end, options = (
    dialogue.vocabulary.control("end"),
    {"vocabulary": dialogue.vocabulary, "tokenizer": dialogue.tokenizer},
  )
  for most in (9, 10, 40):
    states, ids = jnp.array([automaton.state("gender")]), []
    while int(states[0]):
      mask = np.array(automaton.mask(states, left=most - len(ids)))[0]
      mask[end] &= mask.sum() == 1  # goes on as long as it may
      ids.append(int(draw.choice(np.flatnonzero(mask))))
      states = automaton.advance(states, jnp.array(ids[-1:]))
    assert len(ids) == most and not dialogue.layout.decode(ids[:-1], **options).problem


def test_an_answer_that_cannot_end_in_time_goes_on_as_ever(dialogue):
  automaton = make_automaton(dialogue.vocabulary)
  states = jnp.array([automaton.state("gender"), automaton.state("saying")])
  np.testing.assert_array_equal(automaton.mask(states, left=3)[0], automaton.mask(states)[0])
  assert int(automaton.distance[automaton.state("gender")]) == 9
