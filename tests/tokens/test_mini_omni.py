import dataclasses

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.tokens.delays import entries
from omni_jax.tokens.mini_omni import MINI_OMNI, MiniOmniLayout, Task

EOT, PAD_T, INPUT_T, ANSWER_T, ASR = range(151_936, 151_941)
EOA, PAD_A, INPUT_A, ANSWER_A = range(4096, 4100)
PLACE = 4159  # where the original writes PAD_A, which is overwritten
BASES = (152_000, 156_160, 160_320, 164_480, 168_640, 172_800, 176_960)


def shifted(layer_ids):
  return [[base + i for i in layer_ids] for base in BASES]


# Four vectors, or the three text ids 5, 6, 7.
HEARD, READ = [INPUT_T, *[PAD_T] * 4, EOT], [INPUT_T, 5, 6, 7, EOT]
SPOKEN = [INPUT_A, *[PLACE] * 4, EOA]
PROMPTS = {
  Task.A1A2: ([*SPOKEN, ANSWER_A], [*HEARD, ANSWER_T]),
  Task.A1T2: ([*SPOKEN, PAD_A], [*HEARD, ANSWER_T]),
  Task.A1T1: ([*SPOKEN, PAD_A], [*HEARD, ASR]),
  Task.T1A2: ([PAD_A] * 5 + [ANSWER_A], [*READ, ANSWER_T]),
  Task.T1T2: ([PAD_A] * 6, [*READ, ANSWER_T]),
  Task.T1A1: ([PAD_A] * 5 + [ANSWER_A], [*READ, ANSWER_T]),
}


@pytest.mark.parametrize("task", Task)
def test_prompts_are_those_of_the_original(task):
  asked = {"num_frames": 4} if task.hears else {"text": [5, 6, 7]}
  audio, text = PROMPTS[task]
  assert MINI_OMNI.prompt(task, **asked).tolist() == [*shifted(audio), text]


def test_the_tables_end_where_the_release_says():
  assert tuple(row.first for row in MINI_OMNI.audio_rows) == BASES
  assert MINI_OMNI.text_size + MINI_OMNI.audio_size == 181_120
  assert [(row.end, row.pad, row.delay) for row in MINI_OMNI.audio_rows] == [(4096, 4097, i + 1) for i in range(7)]


def test_an_answer_has_the_schedule_of_the_paper():
  codes = np.arange(14).reshape(2, 7)
  grid = MINI_OMNI.answer(Task.A1A2, text=[8, 9], codes=codes)
  columns = grid.tokens - np.array([[row.first] for row in MINI_OMNI.rows])
  assert columns.shape == (8, 10)  # F + 8
  assert columns[0].tolist() == [PAD_A, 0, 7, EOA, *[PAD_A] * 6]
  assert columns[6].tolist() == [*[PAD_A] * 7, 6, 13, EOA]
  assert columns[7].tolist() == [8, 9, EOT, *[PAD_T] * 7]
  assert grid.learned[:-1].all() and grid.learned[-1].tolist() == [True] * 3 + [False] * 7


def test_what_is_learned_is_what_the_task_asks_for():
  written = MINI_OMNI.answer(Task.A1T1, text=[8, 9])
  assert written.tokens.shape == (8, 3) and not written.learned[:-1].any() and written.learned[-1].all()
  assert (written.tokens[0] == BASES[0] + PAD_A).all()
  said = MINI_OMNI.answer(Task.T1A1, text=[8, 9], codes=np.zeros((1, 7), np.int32))
  assert said.learned[:-1].all() and not said.learned[-1].any()
  # Where the text is longer than the speech, the decoding stops with the speech.
  late = MINI_OMNI.answer(Task.A1A2, text=list(range(12)), codes=np.zeros((1, 7), np.int32))
  assert late.tokens.shape[1] == 13 and late.learned[:-1, :9].all() and not late.learned[:-1, 9:].any()
  sample = MINI_OMNI.sample(Task.A1A2, num_frames=4, answer=[8], codes=np.zeros((1, 7), np.int32))
  assert not sample.learned[:, :7].any() and sample.learned[:, 7].all()


@pytest.mark.parametrize("seed", range(10))
def test_an_answer_reads_back(seed):
  draw = np.random.default_rng(seed)
  layout = MiniOmniLayout(num_pieces=30, text_size=40, num_codes=9, codebook_size=20, lead=int(draw.integers(0, 4)))
  text, codes = draw.integers(0, 30, draw.integers(1, 15)), draw.integers(0, 9, (draw.integers(1, 12), 7))
  grid = layout.answer(Task.T1A2, text=text.tolist(), codes=codes)
  columns = grid.tokens - np.array([[row.first] for row in layout.rows])
  read = layout.read(columns)
  assert read.problem == "" and read.text.tolist() == text.tolist()
  np.testing.assert_array_equal(read.codes, codes)
  assert layout.read(columns[:, :-1]).problem  # cut before its end


def test_layers_of_different_length_are_told_and_cut():
  columns = np.repeat(np.array([[row.pad] for row in MINI_OMNI.rows]), 12, axis=1)
  columns[:7, 8:10], columns[0, 10] = 3, 3
  columns[:7, 1:8] = np.where(np.arange(1, 8) > np.arange(7)[:, None], 3, columns[:7, 1:8])
  columns[7, 0] = EOT
  read = MINI_OMNI.read(columns)
  assert "layers of 3 to 10 codes" in read.problem and "the speech does not end" in read.problem
  assert read.codes.shape == (3, 7)


@pytest.mark.parametrize(
  ("make", "what"),
  [
    (lambda: MINI_OMNI.prompt(Task.A1A2), "0 vectors and 0 text ids for A1A2"),
    (lambda: MINI_OMNI.prompt(Task.T1T2, text=[1], num_frames=2), "2 vectors and 1 text ids"),
    (lambda: MINI_OMNI.prompt(Task.T1T2, text=[151_936]), "text id 151936"),
    (lambda: MINI_OMNI.answer(Task.A1A2, text=[1]), "A1A2 without codes"),
    (lambda: MINI_OMNI.answer(Task.A1T2, text=[1], codes=np.zeros((1, 7), int)), "A1T2 with codes"),
    (lambda: MINI_OMNI.answer(Task.A1A2, text=[1], codes=np.zeros((2, 6), int)), "codes of shape"),
    (lambda: MINI_OMNI.answer(Task.A1A2, text=[1], codes=np.full((2, 7), 4096)), "entry 4096"),
    (lambda: dataclasses.replace(MINI_OMNI, codebook_size=4100), "room for"),
  ],
)
def test_what_does_not_fit_is_refused(make, what):
  with pytest.raises(UserError, match=what):
    make()


def test_earlier_turns_and_a_style_stand_in_the_prompt():
  styled = MiniOmniLayout(num_pieces=20, text_size=84, num_codes=12, codebook_size=76)
  happy, mark = Style.parse("male-happy-high"), styled.text_mark
  marks = [mark("gender-male"), mark("emotion-happy"), mark("pitch-high")]
  assert marks == [26, 28, 33]  # five marks, then two genders, four emotions and three pitches
  text = [mark("input"), 3, mark("end"), mark("answer"), 4, 5, mark("end")]
  pads = styled.audio_mark("pad")
  for task, own, asked in (
    (Task.A1A2, [mark("pad")] * 2, {"num_frames": 2}),
    (Task.T1A2, [7, 8], {"text": [7, 8]}),
  ):
    found = entries(styled.prompt(task, style=happy, past=[([3], [4, 5])], **asked), styled.rows)
    assert found[-1].tolist() == [*text, mark("input"), *marks, *own, mark("end"), mark("answer")]
    first = styled.audio_mark("input") if task.hears else pads
    places = [styled.place] * 2 if task.hears else [pads] * 2
    end = styled.audio_mark("end") if task.hears else pads
    expected = [*[pads] * len(text), first, *[pads] * 3, *places, end, styled.audio_mark("answer")]
    assert (found[:-1] == expected).all()
  silent = entries(styled.prompt(Task.T1T2, text=[7], past=[([], [4])]), styled.rows)  # nothing was understood
  assert silent[-1].tolist()[:5] == [mark("input"), mark("end"), mark("answer"), 4, mark("end")]
  sample = styled.sample(Task.T1T2, text=[7], answer=[9], past=[([3], [4])])
  assert sample.learned.sum() == 2  # earlier answers are not learned again


@pytest.mark.parametrize(
  ("task", "size", "what"), [(Task.T1T2, 84, "a style for T1T2"), (Task.T1A2, 28, "8 entries behind the text")]
)
def test_styles_that_cannot_be_asked_for_are_refused(task, size, what):
  layout = MiniOmniLayout(num_pieces=20, text_size=size, num_codes=12, codebook_size=76)
  with pytest.raises(UserError, match=what):
    layout.prompt(task, text=[1], style=Style.parse("male-happy-high"))
