"""How tests hold ids against an automaton."""

import jax.numpy as jnp


def walk(automaton, state, ids):
  """Whether the automaton lets `ids` pass and is over after them."""
  states = jnp.array([automaton.state(state)])
  for token in ids:
    if not bool(automaton.mask(states)[0, token]):
      return False
    states = automaton.advance(states, jnp.array([token]))
  return int(states[0]) == 0
