"""Which tokens may come next: a small automaton over classes of tokens, so that an answer keeps its layout.

    state      gender -> emotion -> pitch -> heard -> words... -> said -> saying... -> speaking... -> over
    may come   a gender  an emotion a pitch <|heard|> pieces,     a piece pieces,      pieces, units,
                                                      <|answer|>          units        <|end|>

Rows of the tables that mean nothing belong to no class, so they are never chosen. SpeechGPT's answers have rules of
their own (`generate.chain_constraints`), and so have those in EMOVA's JSON (`generate.json_constraints`).

Every state knows the fewest tokens that end an answer from there. Near the limit of an answer only what still leaves
room to end may come, so an answer that runs on is closed, not cut.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.core.arrays import Array
from omni_jax.tokens.vocabulary import Vocabulary

Rules = Mapping[str, Mapping[str, str]]  # state -> class of token that may come -> state after it

OVER = "over"  # the state behind an answer, the first of all rules
NEVER = "never"  # the class of what is never chosen

RULES: Rules = {
  OVER: {"end": OVER},
  # a transcript, or a written answer
  "write": {"piece": "writing"},
  "writing": {"piece": "writing", "end": OVER},
  # speech for a given text
  "voice": {"unit": "voicing"},
  "voicing": {"unit": "voicing", "end": OVER},
  # a spoken answer in the native layout; one to typed words begins at `said`, its style being given
  "gender": {"gender": "emotion"},
  "emotion": {"emotion": "pitch"},
  "pitch": {"pitch": "heard"},
  "heard": {"heard": "hear"},
  "hear": {"piece": "hearing"},
  "hearing": {"piece": "hearing", "answer": "said"},
  "said": {"piece": "saying"},
  "saying": {"piece": "saying", "unit": "speaking"},
  "speaking": {"piece": "speaking", "unit": "speaking", "end": OVER},
}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Automaton:
  """Rules as tables; `over` is state 0."""

  classes: Array  # int32 [V], class of each token
  allowed: Array  # bool [states, classes]
  following: Array  # int32 [states, classes]
  distance: Array  # int32 [states], fewest tokens from a state to `over`
  states: tuple[str, ...] = dataclasses.field(metadata={"static": True})  # their names

  def mask(self, states: Array, *, left: Any = None) -> Array:
    """Returns bool [B, V]: the tokens that may come in each row's state.

    Args:
      states: int32 [B].
      left: tokens that an answer may still have; with them, a token comes only if the answer can end after it in time,
        unless no token would.
    """
    allowed = self.allowed[states]
    if left is not None:
      ends = allowed & (self.distance[self.following[states]] < left)
      allowed = jnp.where(ends.any(axis=-1, keepdims=True), ends, allowed)
    return allowed[:, self.classes]

  def advance(self, states: Array, tokens: Array) -> Array:
    """Returns the states after these tokens."""
    return self.following[states, self.classes[tokens]]

  def state(self, name: str) -> int:
    """Returns the number of a state."""
    return self.states.index(name)


def make_automaton(vocabulary: Vocabulary) -> Automaton:
  """Returns the automaton of `RULES` over the ids of a vocabulary."""
  return compile_rules(RULES, token_classes(vocabulary), size=vocabulary.size)


def token_classes(vocabulary: Vocabulary) -> dict[str, list[int]]:
  """Returns the classes of `RULES`, each with its tokens."""
  of_tokens = {"piece": np.flatnonzero(vocabulary.pieces()).tolist(), "unit": vocabulary.unit_ids.tolist()}
  for name, index in vocabulary.styles.items():
    of_tokens.setdefault(name.partition("-")[0], []).append(index)
  for name in ("heard", "answer", "end"):
    if name in vocabulary.controls:  # a released vocabulary has only `end`
      of_tokens[name] = [vocabulary.control(name)]
  return of_tokens


def compile_rules(rules: Rules, of_tokens: Mapping[str, Sequence[int]], *, size: int) -> Automaton:
  """Returns rules as tables.

  Args:
    rules: of which `over` is the first.
    of_tokens: class -> its tokens; a later class takes a token from an earlier one. A class of the rules may be empty.
    size: of the vocabulary.
  """
  states = tuple(rules)
  assert states[0] == OVER, "over is state 0"
  state_of = {state: number for number, state in enumerate(states)}
  names = dict.fromkeys([NEVER, *of_tokens, *(name for after in rules.values() for name in after)])
  class_of = {name: number for number, name in enumerate(names)}
  classes = np.zeros(size, np.int32)
  for name, tokens in of_tokens.items():
    classes[np.asarray(tokens, np.int32)] = class_of[name]
  allowed = np.zeros((len(states), len(class_of)), bool)
  following = np.zeros(allowed.shape, np.int32)
  for state, after in rules.items():
    for name, then in after.items():
      place = state_of[state], class_of[name]
      allowed[place], following[place] = True, state_of[then]
  used = allowed & np.isin(np.arange(len(class_of)), classes)
  distance = jnp.asarray(_distances(used, following))
  return Automaton(jnp.asarray(classes), jnp.asarray(allowed), jnp.asarray(following), distance, states)


def _distances(used: np.ndarray, following: np.ndarray) -> np.ndarray:
  """Returns the fewest tokens from each state to state 0, int32; from where none leads there, more than any answer."""
  before: dict[int, set[int]] = {}
  for state in range(len(used)):
    for after in np.unique(following[state][used[state]]).tolist():
      before.setdefault(after, set()).add(state)
  distance = np.full(len(used), np.iinfo(np.int32).max, np.int32)
  distance[0], frontier = 0, [0]
  for here in frontier:  # grows as states are found, the nearest first
    for state in before.get(here, ()):
      if distance[state] > distance[here] + 1:
        distance[state] = distance[here] + 1
        frontier.append(state)
  return distance
