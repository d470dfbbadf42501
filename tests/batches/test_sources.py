import dataclasses
from pathlib import Path

import numpy as np
import pytest

from omni_jax.batches.sources import NO_PATCH, VIEWS, ImageSize, Source, Writer
from omni_jax.core.errors import UserError
from omni_jax.prepare.reader import open_set
from omni_jax.prepare.schema import Turn
from omni_jax.tokens.answers import NativeLayout
from omni_jax.tokens.dialogue import load_dialogue
from omni_jax.tokens.templates import TINY
from omni_jax.tokens.units import reduce_units
from omni_jax.tokens.vocabulary import STYLE, TEXT, UNIT

IMAGES = ImageSize(patch=4, merge=2, min_pixels=64, max_pixels=1024)
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
    assert places == len(sample.patches) // 4 and (places > 0) == bool(record.image)
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
    assert len(padded.patches) == 64
    np.testing.assert_array_equal(padded.patches[padded.patch_positions[:, 0] != NO_PATCH], plain.patches)


@pytest.mark.parametrize("window", [60, 66])
def test_a_window_too_small_or_of_part_cells_is_refused(window):
  with pytest.raises(UserError, match="windows of"):
    dataclasses.replace(IMAGES, window=window)


@pytest.mark.parametrize("wrong", [{"view": "sing"}, {"weight": 0.0}, {"style_dropout": 1.5}, {"unit_weight": -1.0}])
def test_wrong_sources_are_refused(wrong):
  with pytest.raises(UserError, match="source"):
    Source(**{"folder": Path("x"), "split": "train", "view": "text", "weight": 1.0, **wrong})
