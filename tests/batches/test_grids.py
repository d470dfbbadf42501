import dataclasses

import numpy as np
import pytest

from omni_jax.batches.grids import TASKS_OF_VIEWS, GridBatches, GridWriter
from omni_jax.batches.hearing import Recordings
from omni_jax.batches.sources import Source
from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.prepare.audio import encode_flac
from omni_jax.prepare.recordings import RecordingLayout
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.writer import write_split
from omni_jax.tokens.extension import load_tokenizer
from omni_jax.tokens.mini_omni import MiniOmniLayout
from tests.batches.conftest import picture, sentence

LAYOUT = MiniOmniLayout(num_pieces=320, text_size=384, num_codes=12, codebook_size=76)
HEARING = RecordingLayout(hop=320, most=20)


def coded(role, draw, *, frames=None) -> Turn:
  """Returns a turn with sound and codes."""
  frames = int(draw.integers(1, 5)) if frames is None else frames
  sound = encode_flac(0.3 * draw.standard_normal(int(draw.integers(400, 6000))))
  return Turn(role, sentence(draw), audio=sound, units=draw.integers(0, LAYOUT.num_codes, 7 * frames))


def write_coded(folder, *, records=12) -> None:
  """Writes the sets that Mini-Omni's stages read."""
  draw = np.random.default_rng(0)
  speech = [Example(f"speech/{i}", "speech", (coded("user", draw),)) for i in range(records)]
  dialogue = [
    Example(f"dialogue/{i}", "dialogue", (coded("user", draw), coded("assistant", draw))) for i in range(records)
  ]
  for part in ("corpus", "codes"):
    write_split(folder / part / "speech", "train", speech)
    write_split(folder / part / "dialogue", "train", dialogue)


@pytest.fixture(scope="module")
def coded_sets(workdir):
  write_coded(workdir)
  return workdir


def source(folder, view, **options):
  name = "speech" if view in ("recognise", "synthesise") else "dialogue"
  return Source(folder=folder / "codes" / name, split="train", view=view, weight=1.0, **options)


def batches(folder, *views, **options):
  fields = {"rows": 2, "length": 64, "recordings": 3, "seed": 0, **options}
  return GridBatches(
    text=folder / "text",
    layout=LAYOUT,
    hearing=HEARING,
    sources=tuple(source(folder, view) for view in views),
    quarantine=folder / "aside.jsonl",
    **fields,
  )


@pytest.mark.parametrize("view", TASKS_OF_VIEWS)
def test_targets_are_the_next_entries_and_only_answers_weigh(coded_sets, view):
  draw, task = np.random.default_rng(3), TASKS_OF_VIEWS[view]
  config, tokenizer = batches(coded_sets, view), load_tokenizer(coded_sets / "text")
  write = GridWriter(source(coded_sets, view, text_weight=2.0, unit_weight=0.5), batches=config, tokenizer=tokenizer)
  record = Example("x", "dialogue", (coded("user", draw), coded("assistant", draw)))
  sample = write(record, hear_style=False)
  firsts = np.array([row.first for row in LAYOUT.rows])
  np.testing.assert_array_equal(sample.tokens[1:], sample.targets[:-1] + firsts)
  places = (sample.tokens[:, 0] == LAYOUT.text_size + LAYOUT.place).sum()
  assert places == sample.images["recording_frames"].sum() and (places > 0) == task.hears
  learned = sample.loss_mask > 0
  assert set(np.unique(sample.loss_mask[:, -1])) <= {0.0, 2.0} and set(np.unique(sample.loss_mask[:, 0])) <= {0.0, 0.5}
  assert learned[:, :-1].any() == task.speaks and learned[:, -1].any() == task.learns_text
  assert (sample.target_kind == np.where(learned, task.value, 0)).all()
  read = LAYOUT.read(sample.targets[int(np.flatnonzero(learned.any(axis=1))[0]) :].T)
  said = record.turns[0 if view == "recognise" else 1]
  assert read.problem == "" and tokenizer.decode(read.text) == said.text
  if task.speaks:
    np.testing.assert_array_equal(read.codes.reshape(-1), said.units)


def test_pads_around_codes_may_weigh_less(coded_sets):
  config = batches(coded_sets, "dialogue", pad_weight=0.25)
  tokenizer = load_tokenizer(coded_sets / "text")
  draw = np.random.default_rng(0)
  record = Example("x", "dialogue", (coded("user", draw), coded("assistant", draw)))
  sample = GridWriter(config.sources[0], batches=config, tokenizer=tokenizer)(record, hear_style=False)
  is_pad = sample.targets[:, :-1] == LAYOUT.audio_mark("pad")
  learned = sample.loss_mask[:, :-1] > 0
  assert (sample.loss_mask[:, :-1][is_pad & learned] == 0.25).all() and (is_pad & learned).sum() == 7 * 7
  assert (sample.loss_mask[:, :-1][~is_pad & learned] == 1.0).all()


def test_answers_are_asked_for_in_their_style_where_batches_say_so(coded_sets):
  draw, tokenizer = np.random.default_rng(3), load_tokenizer(coded_sets / "text")
  answer = dataclasses.replace(coded("assistant", draw), style="male-sad-low")
  record = Example("x", "dialogue", (coded("user", draw), answer))
  made = {}
  for styles in (False, True):
    config = batches(coded_sets, "dialogue", styles=styles)
    write = GridWriter(source(coded_sets, "dialogue"), batches=config, tokenizer=tokenizer)
    made[styles] = [write(record, hear_style=hear).tokens for hear in (False, True)]
  (plain, same), (dropped, styled) = made[False], made[True]
  np.testing.assert_array_equal(plain, same)
  np.testing.assert_array_equal(plain, dropped)
  assert styled[1:4, -1].tolist() == LAYOUT.style_marks(Style.parse("male-sad-low")) and len(styled) == len(plain) + 3
  np.testing.assert_array_equal(styled[4:], plain[1:])
  with pytest.raises(UserError, match="without style"):
    write(Example("y", "dialogue", (coded("user", draw), coded("assistant", draw))), hear_style=True)


def test_earlier_turns_stand_before_the_question_where_batches_say_so(coded_sets):
  draw, tokenizer = np.random.default_rng(3), load_tokenizer(coded_sets / "text")
  turns = tuple(coded(role, draw) for _ in range(3) for role in ("user", "assistant"))
  record = Example("x", "dialogue", turns)
  samples = {}
  for number in (1, 2, 3):
    config = batches(coded_sets, "dialogue", turns=number)
    write = GridWriter(source(coded_sets, "dialogue"), batches=config, tokenizer=tokenizer)
    if number == 1:
      with pytest.raises(UserError, match="one question and one answer"):
        write(record, hear_style=False)
      alone = write(Example("x", "dialogue", turns[-2:]), hear_style=False)
    else:
      samples[number] = write(record, hear_style=False)
  before = [len(tokenizer.encode(turn.text)) for turn in turns[:4]]
  assert len(samples[2].tokens) - len(alone.tokens) == sum(before[2:]) + 4
  assert len(samples[3].tokens) - len(alone.tokens) == sum(before) + 8
  np.testing.assert_array_equal(samples[3].tokens[-len(alone.tokens) :], alone.tokens)
  assert samples[3].loss_mask.sum() == alone.loss_mask.sum()


def test_records_of_one_picture_keep_their_own_recordings(coded_sets, tmp_path):
  draw = np.random.default_rng(1)
  turns = [(coded("user", draw), coded("assistant", draw)) for _ in range(6)]
  shown = picture(draw)
  records = [Example(str(i), "spoken_visual_question", pair, shown) for i, pair in enumerate(turns)]
  write_split(tmp_path / "seen", "train", records)
  sources = [
    Source(folder=tmp_path / "seen", split="train", view=view, weight=1.0) for view in ("spoken_reply", "recognise")
  ]
  config = dataclasses.replace(batches(coded_sets, "recognise", cache_bytes=1 << 22), sources=tuple(sources))
  reader = iter(config.open())
  for _ in range(12):
    batch = next(reader)
    places = (batch["tokens"][..., 0] == LAYOUT.text_size + LAYOUT.place).sum(axis=1)
    np.testing.assert_array_equal(places, batch["recording_frames"].sum(axis=1))


def test_packed_rows_hold_whole_samples_with_their_recordings(coded_sets):
  config = batches(coded_sets, *TASKS_OF_VIEWS, cache_bytes=1 << 20)
  reader = iter(config.open())
  for _ in range(12):
    batch = next(reader)
    assert batch["tokens"].shape == batch["targets"].shape == batch["loss_mask"].shape == (2, 64, 8)
    assert batch["recordings"].shape == (2, 3, HEARING.samples) and batch["recordings"].dtype == np.int16
    is_place = batch["tokens"][..., 0] == LAYOUT.text_size + LAYOUT.place
    np.testing.assert_array_equal(is_place.sum(axis=1), batch["recording_frames"].sum(axis=1))
    assert (batch["loss_mask"][batch["segment_ids"] == 0] == 0).all()
    # The k-th run of places has as many places as the k-th recording has vectors.
    for row, frames in zip(is_place, batch["recording_frames"], strict=True):
      runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], row, [0]]))))[::2]
      np.testing.assert_array_equal(runs, frames[frames > 0])


@pytest.mark.parametrize(
  ("view", "change", "what"),
  [
    ("recognise", {"audio": b"", "units": [1] * 7}, "without sound"),
    ("synthesise", {"units": [1] * 8}, "with 8 codes"),
    ("synthesise", {"units": []}, "with 0 codes"),
    ("synthesise", {"units": [12] * 7}, "entry 12"),
    ("dialogue", {}, "turns of user"),
    ("recognise", {"audio": encode_flac(np.zeros(6401))}, r"0\.40 seconds"),
  ],
)
def test_what_a_task_needs_is_demanded(coded_sets, view, change, what):
  config, tokenizer = batches(coded_sets, view), load_tokenizer(coded_sets / "text")
  write = GridWriter(config.sources[0], batches=config, tokenizer=tokenizer)
  turn = dataclasses.replace(coded("user", np.random.default_rng(0)), **change)
  with pytest.raises(UserError, match=what):
    write(Example("x", "speech", (turn,)), hear_style=False)


def test_configs_that_cannot_be_read_are_refused(coded_sets):
  with pytest.raises(UserError, match="views image_text"):
    batches(coded_sets, "image_text")
  several = source(coded_sets, "dialogue", other_views=("image_text",))
  with pytest.raises(UserError, match="views image_text"):
    dataclasses.replace(batches(coded_sets, "dialogue"), sources=(several,))
  for options in ({"other_views": ("text",)}, {"changes": ((5, 0.0),)}):
    config = dataclasses.replace(batches(coded_sets, "text"), sources=(source(coded_sets, "dialogue", **options),))
    with pytest.raises(UserError, match="need a planned order"):
      config.open()
  with pytest.raises(UserError, match="a tokenizer of"):
    dataclasses.replace(batches(coded_sets, "text"), layout=dataclasses.replace(LAYOUT, num_pieces=100)).open()
  with pytest.raises(UserError, match="at least one vector"):
    RecordingLayout(hop=0)


def test_a_prompt_holds_its_recording():
  row = Recordings(layout=HEARING)
  pictures = row.read([np.zeros(700), np.zeros(6400)])
  assert pictures.places == (3, 20)
  assert {name: array.shape for name, array in row.row(pictures).items()} == {
    "recordings": (2, 6400),
    "recording_frames": (2,),
  }
