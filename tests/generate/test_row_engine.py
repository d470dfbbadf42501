import jax
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.generate.engine import Prompt
from omni_jax.generate.row_engine import SPEAK, WRITE, RowEngine
from omni_jax.generate.sampling import Sampling
from omni_jax.tokens.mini_omni import Task
from tests.models.drawn import drawn
from tests.models.test_mini_omni import LAYOUT, question, tiny, twin_of, vectors_of

COLUMNS = 24


@pytest.fixture(scope="module")
def model():
  return drawn(tiny(), deviation=0.5)


def asked(task, **options):
  prompt, heard, _ = question(task, **options)
  return Prompt(tokens=prompt.T, state=SPEAK if task.speaks else WRITE, images=heard)


def features_of(model, task):
  _, heard, _ = question(task)
  return vectors_of(model, heard)[:, : heard["recording_frames"][0]] if heard else None


@pytest.mark.parametrize("speaker", [0, 1])
def test_greedy_entries_are_the_originals_for_every_task(speaker):
  model = drawn(tiny(speaker=speaker), deviation=0.5)
  twin, torch = twin_of(model)
  engine = RowEngine(model, layout=LAYOUT, constrained=False)
  answers = engine.generate([asked(task) for task in Task], max_new_columns=COLUMNS)
  for task, ours in zip(Task, answers, strict=True):
    features = features_of(model, task)
    given = None if features is None else torch.from_numpy(features)
    theirs = twin.answer(question(task)[0], given, speaks=task.speaks, columns=COLUMNS)
    np.testing.assert_array_equal(ours[:, : theirs.shape[1]], theirs, err_msg=task.name)
    # We keep the column in which an answer ends, also where it is the first, which the original does not look at.
    assert ours.shape[1] - theirs.shape[1] in (0, 1)


def test_greedy_entries_in_a_pair_are_the_originals(model):
  twin, torch = twin_of(model)
  engine = RowEngine(model, layout=LAYOUT, constrained=False)
  pair = [asked(Task.A1A2), asked(Task.A1T2)]
  ours, silent = engine.generate(pair, max_new_columns=COLUMNS, paired=True)
  prompts = np.stack([question(task)[0] for task in (Task.A1A2, Task.A1T2)])
  theirs = twin.answer_in_pair(prompts, torch.from_numpy(features_of(model, Task.A1A2)), columns=COLUMNS)
  np.testing.assert_array_equal(ours[:, : theirs.shape[1]], theirs)
  np.testing.assert_array_equal(silent[-1], ours[-1])
  assert (silent[:-1] == LAYOUT.audio_rows[0].pad).all()


def test_a_pair_is_two_decodings_where_their_text_is_forced_equal(model):
  engine = RowEngine(model, layout=LAYOUT, num_pieces=0)  # the text can only end
  prompts = [asked(Task.A1A2), asked(Task.A1T2)]
  for together, prompt in zip(engine.generate(prompts, max_new_columns=COLUMNS, paired=True), prompts, strict=True):
    alone = engine.generate([prompt], max_new_columns=COLUMNS)[0]
    np.testing.assert_array_equal(together[:, : alone.shape[1]], alone)
  assert together.shape[1] > 8


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.5)])
def test_constrained_answers_read_back_whole(model, sampling):
  engine = RowEngine(model, layout=LAYOUT, num_pieces=18, sampling=sampling)
  prompts = [asked(task) for task in Task] * 2
  key = jax.random.key(1)
  ended = 0
  for task, columns in zip([*Task] * 2, engine.generate(prompts, max_new_columns=60, key=key), strict=True):
    read = LAYOUT.read(columns)
    assert (columns >= 0).all() and (read.text < 18).all()
    if not task.speaks:
      assert not len(read.codes) and (columns[:-1] == LAYOUT.audio_rows[0].pad).all()
    elif columns.shape[1] < 60:  # it ended by itself
      lengths = [(row < LAYOUT.num_codes).sum() for row in columns[:-1]]
      assert len(read.codes) == columns.shape[1] - 8 and set(lengths) == {len(read.codes)}
      assert "speech" not in read.problem and "layers" not in read.problem
      ended += 1
  assert ended or sampling.temperature == 0


def test_a_stream_of_blocks_is_the_whole(model):
  engine = RowEngine(model, layout=LAYOUT)
  prompts = [asked(Task.A1A2), asked(Task.T1T2), asked(Task.A1A2, seconds=0.2)]
  whole = engine.generate(prompts, max_new_columns=20)
  blocks = np.concatenate(list(engine.stream(prompts, max_new_columns=20, block=3)), axis=2)
  for row, columns in enumerate(whole):
    np.testing.assert_array_equal(blocks[row, :, : columns.shape[1]], columns)
    assert (blocks[row, :, columns.shape[1] :] == -1).all()


def test_answers_do_not_depend_on_their_neighbours(model):
  engine = RowEngine(model, layout=LAYOUT)
  prompts = [asked(Task.A1A2), asked(Task.T1T2), asked(Task.A1T1, seconds=0.2)]
  for prompt, together in zip(prompts, engine.generate(prompts, max_new_columns=12), strict=True):
    np.testing.assert_array_equal(engine.generate([prompt], max_new_columns=12)[0], together)


def test_what_cannot_be_decoded_is_refused(model):
  engine = RowEngine(model, layout=LAYOUT, max_columns=40)
  with pytest.raises(UserError, match="together at most 40 columns"):
    engine.generate([asked(Task.A1A2)], max_new_columns=36)
  with pytest.raises(UserError, match="take turns"):
    engine.generate([asked(Task.A1A2), asked(Task.A1A2)], max_new_columns=4, paired=True)
  assert engine.generate([], max_new_columns=4) == []
