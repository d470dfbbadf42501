import dataclasses
from pathlib import Path

import numpy as np
import pytest

from omni_jax.batches.pictures import TileSize
from omni_jax.batches.sources import NO_PATCH, VIEWS, ImageSize, Source, Writer
from omni_jax.core.errors import UserError
from omni_jax.prepare.reader import open_set
from omni_jax.prepare.schema import Turn
from omni_jax.prepare.tiles import GRIDS_OF_FOUR, TileLayout
from omni_jax.tokens.answers import NativeLayout, Reply
from omni_jax.tokens.dialogue import Question, load_dialogue
from omni_jax.tokens.templates import TINY
from omni_jax.tokens.units import reduce_units
from omni_jax.tokens.vocabulary import STYLE, TEXT, UNIT

IMAGES = ImageSize(patch=4, merge=2, min_pixels=64, max_pixels=1024)
TILES = TileSize(layout=TileLayout(side=8, cells=2, newline=True), grids=GRIDS_OF_FOUR)
SETS = {
  "text": "text",
  "image_text": "caption",
  "annotations": "annotations",
  "recognise": "speech",
  "synthesise": "speech",
  "dialogue": "spoken_visual_question",
  "spoken_reply": "dialogue",
  "written_reply": "spoken_visual_question",
}


@pytest.fixture
def dialogue(workdir):
  return load_dialogue(workdir / "text", template=TINY, layout=NativeLayout(text_chunk=2, unit_chunk=5))


def make(view: str, dialogue, workdir, **options) -> tuple[Writer, list]:
  folder = workdir / "units" / SETS[view]
  source = Source(folder=folder, split="train", view=view, weight=1.0, **options)
  records = open_set(folder, "train")
  return Writer(source, dialogue=dialogue, images=IMAGES), [records[i] for i in range(len(records))]


@pytest.mark.parametrize("view", VIEWS)
def test_targets_are_the_next_tokens_and_only_answers_weigh(view, dialogue, workdir):
  write, records = make(view, dialogue, workdir, text_weight=2.0, unit_weight=0.5)
  kinds = dialogue.vocabulary.kinds()
  for record in records:
    sample = write(record, hear_style=True)
    np.testing.assert_array_equal(sample.tokens[1:], sample.targets[:-1])
    np.testing.assert_array_equal(sample.target_kind, np.where(sample.loss_mask > 0, kinds[sample.targets], 0))
    weights = {0: 0.0, TEXT: 2.0, UNIT: 0.5, STYLE: 2.0}
    np.testing.assert_array_equal(sample.loss_mask, [weights[int(kind)] for kind in sample.target_kind])
    places = (sample.tokens == dialogue.vocabulary.control("image")).sum()
    np.testing.assert_array_equal(sample.positions[sample.branch_ids == 0], np.arange((sample.branch_ids == 0).sum()))
    assert places == len(sample.images["patches"]) // 4 and (places > 0) == bool(record.image)
    assert sample.targets[-1] == dialogue.vocabulary.control("end") and sample.loss_mask[-1] > 0


def test_the_answer_can_be_read_back_from_the_targets(dialogue, workdir):
  write, records = make("dialogue", dialogue, workdir)
  for record in records:
    sample = write(record, hear_style=True)
    reply = dialogue.read(sample.targets[sample.loss_mask > 0])
    user, answer = record.turns
    assert (reply.text, reply.heard_text, str(reply.style), reply.problem) == (answer.text, user.text, answer.style, "")
    np.testing.assert_array_equal(reply.units, reduce_units(answer.units)[0])


def test_without_hearing_three_tokens_are_missing(dialogue, workdir):
  write, records = make("recognise", dialogue, workdir)
  for record in records:
    assert len(write(record, hear_style=True).tokens) == len(write(record, hear_style=False).tokens) + 3


def test_what_a_view_needs_is_demanded(dialogue, workdir):
  write, (record, *_) = make("recognise", dialogue, workdir)
  silent = dataclasses.replace(record, turns=(Turn("user", "the dog"),))
  with pytest.raises(UserError, match="without units"):
    write(silent, hear_style=False)
  unheard = dataclasses.replace(record, turns=(dataclasses.replace(record.turns[0], heard=""),))
  with pytest.raises(UserError, match="without heard"):
    write(unheard, hear_style=True)
  write, _ = make("dialogue", dialogue, workdir)
  with pytest.raises(UserError, match="turns of user"):
    write(record, hear_style=True)


def test_annotations_are_the_questions_one_by_one(dialogue, workdir):
  write, records = make("annotations", dialogue, workdir)
  single, _ = make("image_text", dialogue, workdir)
  for record in records:
    sample, starts = write(record, hear_style=False), 0
    for number, first in enumerate(range(0, len(record.turns), 2), 1):
      alone = single(dataclasses.replace(record, turns=record.turns[first : first + 2]), hear_style=False)
      seen = (sample.branch_ids == 0) | (sample.branch_ids == number)
      size = min(seen.sum(), len(alone.tokens))  # the very last token is only a target
      np.testing.assert_array_equal(sample.tokens[seen][:size], alone.tokens[:size])
      np.testing.assert_array_equal(sample.positions[seen][:size], np.arange(size))
      starts += int(alone.loss_mask.sum())
    assert int(sample.loss_mask.sum()) == starts


def test_an_image_fills_its_window(dialogue, workdir):
  write, records = make("image_text", dialogue, workdir)
  images = dataclasses.replace(IMAGES, window=64)
  filled = Writer(dataclasses.replace(write._source), dialogue=dialogue, images=images)
  for record in records:
    plain, padded = write(record, hear_style=False), filled(record, hear_style=False)
    np.testing.assert_array_equal(padded.tokens, plain.tokens)
    patches, positions = padded.images["patches"], padded.images["patch_positions"]
    assert len(patches) == 64
    np.testing.assert_array_equal(patches[positions[:, 0] != NO_PATCH], plain.images["patches"])


def test_an_image_stands_in_front_of_its_first_question(dialogue, workdir):
  write, records = make("image_text", dialogue, workdir)
  for record in records:
    longer = dataclasses.replace(record, turns=record.turns * 2)
    sample, once = write(longer, hear_style=False), write(record, hear_style=False)
    is_image = sample.tokens == dialogue.vocabulary.control("image")
    assert is_image.sum() == len(sample.images["patches"]) // 4
    np.testing.assert_array_equal(sample.tokens[: len(once.tokens)], once.tokens)


def test_a_tiled_image_takes_a_place_for_each_of_its_vectors(dialogue, workdir):
  write, records = make("dialogue", dialogue, workdir)
  tiled = Writer(write._source, dialogue=dialogue, images=TILES)
  for record in records:
    sample, native = tiled(record, hear_style=True), write(record, hear_style=True)
    is_image = [one.tokens == dialogue.vocabulary.control("image") for one in (sample, native)]
    assert is_image[0].sum() == len(sample.images["tile_layout"]) > 0
    np.testing.assert_array_equal(sample.tokens[~is_image[0]], native.tokens[~is_image[1]])


@pytest.mark.parametrize("images", [IMAGES, TILES])
def test_a_long_sample_is_cut_and_images_stay_whole(dialogue, workdir, images):
  write, records = make("image_text", dialogue, workdir)
  for record in records[:8]:
    whole = Writer(write._source, dialogue=dialogue, images=images)(record, hear_style=False)
    first = int(np.flatnonzero(whole.loss_mask)[0])
    for length in range(1, len(whole.tokens) + 2):
      cut = Writer(write._source, dialogue=dialogue, images=images, length=length)
      if length <= first:  # the first target is not reached
        with pytest.raises(UserError, match="nothing to learn"):
          cut(record, hear_style=False)
        continue
      sample = cut(record, hear_style=False)
      for name in ("tokens", "targets", "loss_mask", "positions"):
        np.testing.assert_array_equal(getattr(sample, name), getattr(whole, name)[:length])
      assert {name: len(array) for name, array in sample.images.items()} == {
        name: len(array) for name, array in whole.images.items()
      }


def test_an_image_that_would_be_cut_is_left_out_with_what_follows(dialogue, workdir):
  write, _ = make("image_text", dialogue, workdir)
  image = dialogue.vocabulary.control("image")
  places, asked = (5, 3), Reply(text="dog")
  pairs = [(Question(text="the", image_tokens=count), asked) for count in places]
  grid = dialogue.conversation(pairs)
  columns = np.flatnonzero(grid.row == image)
  for length in range(int(columns[4]) + 8, len(grid)):
    cut, kept = Writer(write._source, dialogue=dialogue, images=IMAGES, length=length)._cut(grid, places)
    second = columns[5:]
    if length > second[-1]:
      assert kept == 2 and len(cut) == length + 1
    else:
      assert kept == 1 and len(cut) == min(length + 1, second[0])
    # What is learned is what the release learns, which keeps the first vectors of an image.
    np.testing.assert_array_equal(cut.learned[0], grid.learned[0, : len(cut)])
    assert not grid.learned[0, len(cut) : length + 1].any()


@pytest.mark.parametrize("window", [60, 66])
def test_a_window_too_small_or_of_part_cells_is_refused(window):
  with pytest.raises(UserError, match="windows of"):
    dataclasses.replace(IMAGES, window=window)


@pytest.mark.parametrize("wrong", [{"view": "sing"}, {"weight": 0.0}, {"style_dropout": 1.5}, {"unit_weight": -1.0}])
def test_wrong_sources_are_refused(wrong):
  with pytest.raises(UserError, match="source"):
    Source(**{"folder": Path("x"), "split": "train", "view": "text", "weight": 1.0, **wrong})
