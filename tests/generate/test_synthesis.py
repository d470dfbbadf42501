import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES
from omni_jax.generate.constraints import make_automaton
from omni_jax.generate.engine import Engine, Prompt
from omni_jax.generate.sampling import Sampling
from omni_jax.generate.synthesis import Reader
from omni_jax.tokens.dialogue import Question
from omni_jax.tokens.units import reduce_units

TEXTS = [("the dog is old", ALL_STYLES[0]), ("the star", ALL_STYLES[13]), ("the house is red", ALL_STYLES[5])]
MOST = 24


@pytest.fixture
def engine(model, dialogue) -> Engine:
  return Engine(model, make_automaton(dialogue.vocabulary), sampling=Sampling(), max_tokens=256)


@pytest.fixture
def reader(engine, dialogue) -> Reader:
  return Reader(engine, dialogue=dialogue, max_new_tokens=MOST)


def understood(engine, dialogue, readings) -> np.ndarray:
  """How well the model understands each text in its reading; one that was cut is understood least."""
  heard = [
    dialogue.recognition_prompt(Question(units=reduce_units(dialogue.read_units(ids))[0], style=style))
    for ids, (_, style) in zip(readings, TEXTS, strict=True)
  ]
  scores = engine.log_likelihood(heard, [dialogue.transcript(text) for text, _ in TEXTS])
  return np.where([len(ids) < MOST for ids in readings], scores, scores - 1e6)


def test_one_reading_is_the_greedy_one(reader, engine, dialogue):
  prompts = [
    Prompt(tokens=np.array(dialogue.synthesis_prompt(text, style), np.int32), state="voice") for text, style in TEXTS
  ]
  greedy = engine.generate(prompts, max_new_tokens=MOST)
  for one, other in zip(reader.read(TEXTS, readings=1), greedy, strict=True):
    np.testing.assert_array_equal(one, other)


def test_more_readings_are_understood_better_and_the_same_every_time(reader, engine, dialogue):
  chosen = reader.read(TEXTS, readings=6)
  better = understood(engine, dialogue, chosen) - understood(engine, dialogue, reader.read(TEXTS, readings=1))
  assert (better >= -1e-3).all() and (better > 1e-2).any()
  for one, other in zip(chosen, reader.read(TEXTS, readings=6), strict=True):
    np.testing.assert_array_equal(one, other)


def test_nothing_to_say_and_no_reading_are_refused(reader):
  with pytest.raises(UserError, match="empty text"):
    reader.read([("  ", ALL_STYLES[0])], readings=2)
  with pytest.raises(UserError, match="0 readings"):
    reader.read(TEXTS, readings=0)
