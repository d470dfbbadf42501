import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES, EMOTIONS, GENDERS
from omni_jax.generate.constraints import make_automaton
from omni_jax.generate.engine import Engine, Prompt
from omni_jax.generate.sampling import Sampling
from omni_jax.generate.synthesis import DialogueScript, Reader
from omni_jax.speech.lengths import Lengths
from omni_jax.tokens.dialogue import Question
from omni_jax.tokens.units import reduce_units

TEXTS = [("the dog is old", ALL_STYLES[0]), ("the star", ALL_STYLES[13]), ("the house is red", ALL_STYLES[5])]
MOST = 24


@pytest.fixture
def engine(model, dialogue) -> Engine:
  return Engine(model, make_automaton(dialogue.vocabulary), sampling=Sampling(), max_tokens=256)


@pytest.fixture
def reader(engine, dialogue) -> Reader:
  return Reader(engine, script=DialogueScript(dialogue), max_new_tokens=MOST)


def judged(engine, dialogue, readings) -> np.ndarray:
  """How likely each text is in its reading, and 0.3 times how likely the reading is; one that was cut comes last."""
  heard = [
    dialogue.recognition_prompt(Question(units=reduce_units(dialogue.read_units(ids))[0], style=style))
    for ids, (_, style) in zip(readings, TEXTS, strict=True)
  ]
  scores = engine.log_likelihood(heard, [dialogue.transcript(text) for text, _ in TEXTS])
  end = dialogue.vocabulary.control("end")
  asked = [dialogue.synthesis_prompt(text, style) for text, style in TEXTS]
  scores = scores + 0.3 * engine.log_likelihood(asked, [[*ids, end] for ids in readings])
  return np.where([len(ids) < MOST for ids in readings], scores, scores - 1e6)


def test_one_reading_is_the_greedy_one(reader, engine, dialogue):
  prompts = [
    Prompt(tokens=np.array(dialogue.synthesis_prompt(text, style), np.int32), state="voice") for text, style in TEXTS
  ]
  greedy = engine.generate(prompts, max_new_tokens=MOST)
  for one, other in zip(reader.read(TEXTS, readings=1), greedy, strict=True):
    np.testing.assert_array_equal(one, other)


def test_more_readings_are_better_and_the_same_every_time(reader, engine, dialogue):
  chosen = reader.read(TEXTS, readings=6)
  better = judged(engine, dialogue, chosen) - judged(engine, dialogue, reader.read(TEXTS, readings=1))
  assert (better >= -1e-3).all() and (better > 1e-2).any()
  for one, other in zip(chosen, reader.read(TEXTS, readings=6), strict=True):
    np.testing.assert_array_equal(one, other)


class Slow:
  """A vocoder that says each unit in a tenth of a second."""

  def seconds(self, units, styles):
    return [0.1 * len(row) for row in units]


def test_a_reading_of_the_expected_length_is_preferred(engine, dialogue):
  text, style = TEXTS[0]
  kinds = [f"{gender}-{emotion}" for gender in GENDERS for emotion in EMOTIONS]
  lengths = Lengths(per_letter=0.0, constant=0.9, factors=dict.fromkeys(kinds, 1.0), deviation=0.05)
  ids = np.array(dialogue.vocabulary.unit_ids)
  readings, asked = [ids[:9], ids[:3]], [(text, style)] * 2
  plain = Reader(engine, script=DialogueScript(dialogue), max_new_tokens=MOST)._judge(readings, asked)
  timed = Reader(engine, script=DialogueScript(dialogue), max_new_tokens=MOST, vocoder=Slow(), lengths=lengths)._judge(
    readings, asked
  )
  np.testing.assert_allclose(timed - plain, [0.0, -0.5 * (np.log(3 / 9) / 0.05) ** 2], rtol=1e-4, atol=1e-4)


def test_nothing_to_say_and_no_reading_are_refused(reader):
  with pytest.raises(UserError, match="empty text"):
    reader.read([("  ", ALL_STYLES[0])], readings=2)
  with pytest.raises(UserError, match="0 readings"):
    reader.read(TEXTS, readings=0)
