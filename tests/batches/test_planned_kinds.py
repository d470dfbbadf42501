"""Samples of several rows and samples without images go through the same plan as all others."""

import dataclasses
import itertools

import numpy as np
import pytest

from omni_jax.batches import plan
from omni_jax.batches.grids import TASKS_OF_VIEWS, PlannedGrids
from omni_jax.batches.packing import fields
from omni_jax.batches.planned import Host, PlannedRows
from omni_jax.batches.sources import Source
from omni_jax.batches.speech_instruct import Kind, PlannedInstruct
from omni_jax.core.config import from_json, to_json
from omni_jax.core.errors import UserError
from omni_jax.prepare.audio import encode_flac
from omni_jax.prepare.reader import open_set
from omni_jax.prepare.schema import Example
from omni_jax.prepare.writer import write_split
from tests.batches import test_grids, test_speech_instruct
from tests.batches.test_planned import digest, together

VIEWS = tuple(TASKS_OF_VIEWS)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
  monkeypatch.setattr(plan, "BLOCK_ROWS", 8)


@pytest.fixture(scope="module")
def sets(workdir):
  test_grids.write_coded(workdir)
  return workdir


def planned(kind, folder, plans):
  """Returns planned batches of four rows, of grids of eight rows or of SpeechGPT's sequences."""
  if kind == "grids":
    return PlannedGrids(**own_fields(test_grids.batches(folder, *VIEWS, rows=4)), plans=plans)
  views = ("dialogue", "written_reply", "spoken_reply", "text")
  return PlannedInstruct(
    **own_fields(test_speech_instruct.batches(folder, Kind.CHAIN, *views, rows=4, length=400)), plans=plans
  )


def own_fields(config):
  return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


@pytest.mark.parametrize("kind", ["grids", "instruct"])
def test_any_number_of_hosts_and_any_stop_gives_the_same_batches(sets, tmp_path, kind):
  config = planned(kind, sets, tmp_path / "plans")
  expected = together(config, 1, count=4)
  assert len(set(expected)) == 4
  assert together(config, 2, count=4) == together(config, 4, count=4) == expected
  assert together(config, 2, first=1, count=3) == expected[1:]
  assert from_json(to_json(config)) == config


@pytest.mark.parametrize("kind", ["grids", "instruct"])
def test_a_row_holds_what_the_writer_makes_of_its_records(sets, tmp_path, kind):
  config = planned(kind, sets, tmp_path / "plans")
  rows, reading = PlannedRows(config, Host(0, 1)), config.read_as()
  seen = set()
  for number in range(24):
    samples = []
    for entry in rows.plan.row(number):
      source = config.sources[entry["source"]]
      record = open_set(source.folder, source.split)[int(entry["record"])]
      samples.append(reading.writer(source)(record, hear_style=True))
      seen.add(source.view)
    made = rows.samples(number)
    for sample, own in zip(samples, made, strict=True):
      for name, value in fields(sample).items():
        np.testing.assert_array_equal(fields(own)[name], value)
  assert seen == {source.view for source in config.sources}


def test_batches_have_the_arrays_of_those_without_a_plan(sets, tmp_path):
  for kind, like in (
    ("grids", test_grids.batches(sets, *VIEWS, rows=4)),
    ("instruct", test_speech_instruct.batches(sets, Kind.CHAIN, "dialogue", rows=4, length=400)),
  ):
    batch, other = next(iter(planned(kind, sets, tmp_path / kind).open())), next(iter(like.open()))
    assert {name: (array.shape, array.dtype) for name, array in batch.items()} == {
      name: (array.shape, array.dtype) for name, array in other.items()
    }


def test_a_recording_that_ends_before_its_head_says_is_put_aside(tmp_path, sets):
  draw = np.random.default_rng(0)
  whole = [test_grids.coded("user", draw) for _ in range(5)]
  cut = dataclasses.replace(whole[0], audio=encode_flac(0.3 * draw.standard_normal(5000))[:-2000])
  records = [Example(str(i), "speech", (turn,)) for i, turn in enumerate([*whole[1:], cut])]
  write_split(tmp_path / "speech", "train", records)
  source = Source(folder=tmp_path / "speech", split="train", view="recognise", weight=1.0)
  config = PlannedGrids(
    **own_fields(test_grids.batches(sets, "recognise", rows=2)) | {"sources": (source,), "quarantine": tmp_path / "q"},
    plans=tmp_path / "plans",
  )
  allowing = dataclasses.replace(config, max_bad_share=0.5)
  batches = list(itertools.islice(allowing.open(), 6))
  assert {len(np.unique(batch["segment_ids"])) for batch in batches} != {1}
  assert (tmp_path / "q").read_text().count("\n") == 1 and digest(batches[0]) == digest(next(iter(allowing.open())))
  with pytest.raises(UserError, match="put aside"):
    list(itertools.islice(config.open(), 6))
