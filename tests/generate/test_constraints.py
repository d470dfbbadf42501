import types
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core.styles import ALL_STYLES
from omni_jax.generate.constraints import RULES, make_automaton, state_index
from omni_jax.tokens.answers import JsonLayout, Reply
from omni_jax.tokens.speech_gpt import speech_gpt_vocabulary
from omni_jax.tokens.vocabulary import NONE


def walk(automaton, state: str, ids) -> bool:
  """Whether the automaton lets `ids` pass and is over after them."""
  states = jnp.array([state_index(state)])
  for token in ids:
    if not bool(automaton.mask(states)[0, token]):
      return False
    states = automaton.advance(states, jnp.array([token]))
  return int(states[0]) == 0


def test_every_written_answer_may_be_generated(dialogue):
  automaton, end = make_automaton(dialogue.vocabulary), dialogue.vocabulary.control("end")
  options = {"vocabulary": dialogue.vocabulary, "tokenizer": dialogue.tokenizer}
  units = np.arange(7, dtype=np.int32)
  for reply, state in (
    (Reply(text="the dog is old", style=ALL_STYLES[3], units=units, heard_text="the star"), "gender"),
    (Reply(text="the dog is old"), "write"),
  ):
    assert walk(automaton, state, [*dialogue.layout.encode(reply, **options), end])
    assert walk(automaton, "object", [*JsonLayout().encode(reply, **options), end])
  typed = dialogue.layout.encode(Reply(text="the dog", style=ALL_STYLES[0], units=units), **options)
  assert walk(automaton, "said", [*typed[3:], end])
  assert not walk(automaton, "said", [*typed, end])
  assert walk(automaton, "voice", [*dialogue.vocabulary.unit_ids[units].tolist(), end])
  assert not walk(automaton, "voice", [end]), "speech has at least one unit"


def test_rows_without_meaning_are_never_allowed_and_no_state_is_a_dead_end(dialogue):
  automaton = make_automaton(dialogue.vocabulary)
  for state in RULES:
    mask = np.asarray(automaton.mask(jnp.array([state_index(state)])))[0]
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


def test_units_come_between_their_markers_only():
  tokenizer: Any = types.SimpleNamespace(num_pieces=30, num_ids=30, specials={"<unk>": 0}, fingerprint="0")
  vocabulary = speech_gpt_vocabulary(tokenizer, num_units=6)
  automaton = make_automaton(vocabulary)
  opens, closes = (vocabulary.specials[name] for name in ("<sosp>", "<eosp>"))
  end, unit = vocabulary.control("end"), int(vocabulary.unit_ids[2])

  def allowed(state, *tokens):
    mask = np.asarray(automaton.mask(jnp.array([state])))[0]
    return [bool(mask[token]) for token in tokens]

  state = state_index("chain")
  assert allowed(state, 5, opens, unit, closes, end) == [True, True, False, False, False]
  for token, after in (
    (5, [True, True, False, False, True]),
    (opens, [False, False, True, False, False]),
    (unit, [False, False, True, True, False]),
    (closes, [True, True, False, False, True]),
  ):
    state = int(automaton.advance(jnp.array([state]), jnp.array([token]))[0])
    assert allowed(state, 5, opens, unit, closes, end) == after
  assert allowed(state, vocabulary.specials["[Human]"], vocabulary.specials["<eoh>"]) == [False, False]
