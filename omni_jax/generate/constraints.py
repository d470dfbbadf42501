"""Which tokens may come next: a small automaton over classes of tokens, so that an answer keeps its layout.

    state      gender -> emotion -> pitch -> heard -> words... -> said -> saying... -> speaking... -> over
    may come   a gender  an emotion a pitch <|heard|> pieces,     a piece pieces,      pieces, units,
                                                      <|answer|>          units        <|end|>

Rows of the tables that mean nothing belong to no class, so they are never chosen.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from omni_jax.core.arrays import Array
from omni_jax.tokens.speech_gpt import UNITS_CLOSE, UNITS_OPEN
from omni_jax.tokens.vocabulary import Vocabulary

# `opens` and `closes` speech in a vocabulary that has markers for it (SpeechGPT).
_CLASSES = ("never", "piece", "unit", "gender", "emotion", "pitch", "heard", "answer", "end", "opens", "closes")
_MARKERS = {"opens": UNITS_OPEN, "closes": UNITS_CLOSE}

# state -> class of token that may come -> state after it
RULES: Mapping[str, Mapping[str, str]] = {
  "over": {"end": "over"},
  # a transcript, or a written answer
  "write": {"piece": "writing"},
  "writing": {"piece": "writing", "end": "over"},
  # speech for a given text
  "voice": {"unit": "voicing"},
  "voicing": {"unit": "voicing", "end": "over"},
  # a spoken answer in the native layout; one to typed words begins at `said`, its style being given
  "gender": {"gender": "emotion"},
  "emotion": {"emotion": "pitch"},
  "pitch": {"pitch": "heard"},
  "heard": {"heard": "hear"},
  "hear": {"piece": "hearing"},
  "hearing": {"piece": "hearing", "answer": "said"},
  "said": {"piece": "saying"},
  "saying": {"piece": "saying", "unit": "speaking"},
  "speaking": {"piece": "speaking", "unit": "speaking", "end": "over"},
  # a JSON answer: only its parser knows more
  "object": {"piece": "objects"},
  "objects": {"piece": "objects", "unit": "objects", "end": "over"},
  # a chain of modality: text, and units between their markers only
  "chain": {"piece": "chained", "opens": "opened"},
  "chained": {"piece": "chained", "opens": "opened", "end": "over"},
  "opened": {"unit": "sounding"},
  "sounding": {"unit": "sounding", "closes": "chained"},
}
_STATES = tuple(RULES)


class Automaton(NamedTuple):
  """The rules as tables; `over` is state 0."""

  classes: Array  # int32 [V], class of each token
  allowed: Array  # bool [states, classes]
  following: Array  # int32 [states, classes]

  def mask(self, states: Array) -> Array:
    """Returns bool [B, V]: the tokens that may come in each row's state."""
    return self.allowed[states][:, self.classes]

  def advance(self, states: Array, tokens: Array) -> Array:
    """Returns the states after these tokens."""
    return self.following[states, self.classes[tokens]]


def make_automaton(vocabulary: Vocabulary) -> Automaton:
  """Returns the automaton of `RULES` over the ids of a vocabulary."""
  classes = np.zeros(vocabulary.size, np.int32)
  classes[vocabulary.pieces()] = _CLASSES.index("piece")
  classes[vocabulary.unit_ids] = _CLASSES.index("unit")
  for name, index in vocabulary.styles.items():
    classes[index] = _CLASSES.index(name.partition("-")[0])
  for name in ("heard", "answer", "end"):
    if name in vocabulary.controls:  # a released vocabulary has only `end`
      classes[vocabulary.control(name)] = _CLASSES.index(name)
  for name, marker in _MARKERS.items():
    if marker in vocabulary.specials:
      classes[vocabulary.specials[marker]] = _CLASSES.index(name)
  allowed = np.zeros((len(_STATES), len(_CLASSES)), bool)
  following = np.zeros(allowed.shape, np.int32)
  for state, rules in RULES.items():
    for name, after in rules.items():
      place = _STATES.index(state), _CLASSES.index(name)
      allowed[place], following[place] = True, _STATES.index(after)
  return Automaton(jnp.asarray(classes), jnp.asarray(allowed), jnp.asarray(following))


def state_index(name: str) -> int:
  """Returns the number of a state."""
  return _STATES.index(name)
