import dataclasses
import hashlib
import io
import itertools
import json
import pickle

import grain
import numpy as np
import pytest
from PIL import Image

from omni_jax.batches import plan, views
from omni_jax.batches.packing import pack
from omni_jax.batches.pictures import TileSize
from omni_jax.batches.planned import Host, PlannedBatches, PlannedRows
from omni_jax.batches.sources import ImageSize, Source
from omni_jax.core.config import from_json, to_json
from omni_jax.core.errors import UserError
from omni_jax.prepare.tiles import GRIDS_OF_FOUR, TileLayout
from omni_jax.prepare.writer import write_split
from omni_jax.tokens.answers import NativeLayout
from omni_jax.tokens.grid import Grid
from omni_jax.tokens.templates import TINY
from tests.batches.conftest import examples

TILES = TileSize(layout=TileLayout(side=8, cells=2, newline=True), grids=GRIDS_OF_FOUR)
STEPS = 6


@pytest.fixture
def config(workdir, tmp_path) -> PlannedBatches:
  ways = {"speech": "recognise", "caption": "image_text", "spoken_visual_question": "dialogue"}
  return PlannedBatches(
    text=workdir / "text",
    template=TINY,
    layout=NativeLayout(text_chunk=2, unit_chunk=5),
    sources=tuple(
      Source(folder=workdir / "units" / name, split="train", view=view, weight=weight, style_dropout=0.3)
      for (name, view), weight in zip(ways.items(), (0.5, 0.3, 0.2), strict=True)
    ),
    rows=4,
    length=128,
    patches=192,
    images=ImageSize(patch=4, merge=2, min_pixels=64, max_pixels=1024),
    quarantine=tmp_path / "quarantine.jsonl",
    seed=1,
    plans=tmp_path / "plans",
  )


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
  monkeypatch.setattr(plan, "BLOCK_ROWS", 8)


def digest(batch) -> str:
  parts = [name.encode() + str((array.shape, array.dtype)).encode() + array.tobytes() for name, array in batch.items()]
  return hashlib.sha256(b"".join(parts)).hexdigest()


def together(config, hosts, *, first=0, count=STEPS):
  """Returns the digests of the global batches that so many hosts read, each from the same position."""
  iterators = [iter(config.open_part(index, hosts)) for index in range(hosts)]
  digests = []
  for iterator in iterators:
    iterator.set_state(iterator.get_state() | {"row": first * config.rows})
  for _ in range(count):
    parts = [next(iterator) for iterator in iterators]
    digests.append(digest({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}))
  assert len({json.dumps(iterator.get_state()) for iterator in iterators}) == 1, "one position for all hosts"
  return digests


@pytest.mark.parametrize("seed", range(2))
def test_any_number_of_hosts_gives_the_same_batches(config, seed):
  own = dataclasses.replace(config, seed=seed)
  expected = together(own, 1)
  assert len(set(expected)) == STEPS
  assert together(own, 2) == together(own, 4) == expected
  for stopped, hosts in itertools.product((1, 4), (1, 2, 4)):
    assert together(own, hosts, first=stopped, count=STEPS - stopped) == expected[stopped:]
  assert together(dataclasses.replace(own, seed=seed + 1), 1) != expected
  assert together(dataclasses.replace(own, plans=own.plans / "again", cache_bytes=1 << 20), 2) == expected


def test_stopped_anywhere_it_goes_on_the_same(config):
  expected = together(config, 1)
  iterator = iter(grain.experimental.ThreadPrefetchIterDataset(config.open(), prefetch_buffer_size=2))
  for step in range(STEPS):
    state = json.loads(json.dumps(iterator.get_state()))
    assert state["row"] == step * config.rows and list(state) == ["row", "plan"]
    again = iter(grain.experimental.ThreadPrefetchIterDataset(config.open(), prefetch_buffer_size=2))
    again.set_state(state)
    assert digest(next(again)) == digest(next(iterator)) == expected[step]
    again.close()
  iterator.close()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(config, workers):
  own = dataclasses.replace(config, workers=workers)
  assert together(own, 1) == together(own, 2) == together(config, 1)
  assert together(own, 1, first=3, count=2) == together(config, 1)[3:5]


def test_a_copy_in_another_process_reads_the_same_rows(config):
  rows = PlannedRows(config, Host(1, 2))
  copied = pickle.loads(pickle.dumps(rows))
  assert [digest(copied[place]) for place in (5, 0, 3)] == [digest(rows[place]) for place in (5, 0, 3)]
  assert digest(rows[5]) == digest(PlannedRows(config, Host(0, 1))[11]), "place 5 of host 1 is row 3 of step 2"


@pytest.mark.parametrize("kind", ["patches", "windows", "tiles", "none"])
def test_a_row_is_what_the_packer_makes_of_its_samples(config, kind):
  own = {
    "patches": config,
    "windows": dataclasses.replace(config, images=dataclasses.replace(config.images, window=64)),
    "tiles": dataclasses.replace(config, images=TILES, patches=12),
    "none": dataclasses.replace(config, sources=config.sources[:1], patches=0),
  }[kind]
  rows = PlannedRows(own, Host(0, 1))
  for number in range(4):
    stream = grain.MapDataset.source(rows.samples(number)).to_iter_dataset(grain.ReadOptions(num_threads=0))
    (packed,) = pack(stream, rows=1, length=own.length, images=own.images, pieces=own.patches)
    row = rows.row(number)
    assert row.keys() == packed.keys()
    for name, array in row.items():
      np.testing.assert_array_equal(array, packed[name][0], err_msg=name)
      assert array.dtype == packed[name].dtype


def test_several_streams_go_the_same_way(config, monkeypatch):
  def eight(example, scene):
    one = views._dialogue(example, scene)
    delayed = [np.roll(np.where(one.learned, one.tokens, 1)[0], row) for row in range(7)]
    return Grid(np.stack([*delayed, one.tokens[0]]), np.repeat(one.learned, 8, axis=0), one.branches)

  monkeypatch.setitem(views.VIEWS, "eight", eight)
  (spoken,) = config.sources[2:]
  one = dataclasses.replace(config, sources=(spoken,))
  several = dataclasses.replace(config, sources=(dataclasses.replace(spoken, view="eight"),))
  for single, batch in itertools.islice(zip(one.open(), several.open(), strict=True), 3):
    assert batch["tokens"].shape == batch["targets"].shape == batch["loss_mask"].shape == (4, 128, 8)
    for name, array in single.items():
      np.testing.assert_array_equal(batch[name][..., -1] if batch[name].ndim > array.ndim else batch[name], array)
    inside = (batch["segment_ids"][:, 1:] == batch["segment_ids"][:, :-1]) & (batch["segment_ids"][:, 1:] > 0)
    np.testing.assert_array_equal(batch["tokens"][:, 1:][inside], batch["targets"][:, :-1][inside])
  assert together(several, 2, count=3) == together(several, 1, count=3)


def test_what_fits_no_row_or_lacks_units_is_put_aside_once(config, workdir):
  longest = max(int(part.views[0].counts["tokens"].max()) for part in config.prepared().parts)
  short = dataclasses.replace(config, length=longest - 1, max_bad_share=0.9)
  read = together(short, 1, count=3)
  lines = [json.loads(line) for line in short.quarantine.read_text().splitlines()]
  assert lines and all(f"{longest} tokens, a row has {longest - 1}" == line["reason"] for line in lines)
  assert together(short, 1, count=3) == read
  assert len(short.quarantine.read_text().splitlines()) == len(lines)
  with pytest.raises(UserError, match="records cannot be used"):
    dataclasses.replace(short, max_bad_share=0.01, plans=config.plans / "strict").open()
  silent = dataclasses.replace(config.sources[0], folder=workdir / "units" / "text")
  for _ in range(2):  # counted anew, and from what was counted
    with pytest.raises(UserError, match="cannot be used"):
      dataclasses.replace(config, sources=(silent,)).open()


def cut_short() -> bytes:
  """Returns an image file whose head is whole and whose pixels end too soon."""
  data = io.BytesIO()
  Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24, 3)).astype(np.uint8)).save(data, "JPEG")
  return data.getvalue()[:-200]


def test_a_damaged_image_leaves_its_place_empty(config, tmp_path):
  records = examples("caption", np.random.default_rng(5))
  records[3] = dataclasses.replace(records[3], image=cut_short())
  folder = tmp_path / "caption"
  write_split(folder, "train", records)
  source = Source(folder=folder, split="train", view="image_text", weight=1.0)
  own = dataclasses.replace(config, sources=(source,), max_bad_share=0.05)
  rows = PlannedRows(own, Host(0, 1))
  holed = [rows.row(number) for number in range(8)]
  planned = np.concatenate([rows.plan.row(number) for number in range(8)])
  shown = sum(int(row["segment_ids"].max(initial=0)) for row in holed)
  assert 0 < (planned["record"] == 3).sum() == len(planned) - shown
  (line,) = own.quarantine.read_text().splitlines()
  assert json.loads(line)["id"] == records[3].id
  assert all(row.keys() == holed[0].keys() for row in holed)


def test_records_that_are_not_those_counted_are_refused(config):
  rows = PlannedRows(config, Host(0, 1))
  parts = rows._ready().parts
  other = parts[1]._replace(records=parts[2].records)
  rows._prepared = rows._ready()._replace(parts=(parts[0], other, parts[2]))
  with pytest.raises(UserError, match="were counted"):
    for number in range(9):
      rows.row(number)


def test_a_position_of_another_plan_is_refused(config):
  state = iter(config.open()).get_state()
  with pytest.raises(UserError, match="the position is of the plan"):
    iter(dataclasses.replace(config, seed=9).open()).set_state(state)


def test_views_drawn_by_chance_and_weights_that_change(config):
  both = dataclasses.replace(config.sources[0], other_views=("synthesise",), changes=((4, 0.0),))
  own = dataclasses.replace(config, sources=(both, *config.sources[1:]))
  entries = np.concatenate(own.prepared().plan.rows(0, 800))
  spoken = entries["source"] == 0
  assert {0, 1} == set(entries["view"][spoken].tolist()) and not entries["view"][~spoken].any()
  assert not spoken[-400:].any()
  assert from_json(to_json(own)) == own
  assert to_json(config.sources[0]).keys() == {"type", *(f.name for f in dataclasses.fields(Source) if not f.metadata)}


@pytest.mark.parametrize("wrong", [{"workers": -1}, {"rows": 0}, {"sources": ()}])
def test_wrong_values_are_refused(config, wrong):
  with pytest.raises(UserError):
    dataclasses.replace(config, **wrong)


def test_rows_that_do_not_divide_over_hosts_are_refused(config):
  with pytest.raises(UserError, match="4 rows in 3 parts"):
    config.open_part(0, 3)


@pytest.mark.parametrize("wrong", [{"changes": ((0, 1.0),)}, {"changes": ((5, -1.0),)}, {"other_views": ("sing",)}])
def test_wrong_sources_are_refused(config, wrong):
  with pytest.raises(UserError, match="source"):
    dataclasses.replace(config.sources[0], **wrong)


def test_rows_without_branches_leave_their_ids_out(config, workdir):
  plain = dataclasses.replace(config, branched=False)
  batch, other = next(iter(config.open())), next(iter(plain.open()))
  assert batch.keys() - other.keys() == {"branch_ids"}
  assert {name: (array.shape, array.dtype) for name, array in other.items()} == {
    name: (shape.shape, shape.dtype) for name, shape in plain.shapes().items()
  }
  several = Source(folder=workdir / "units" / "annotations", split="train", view="annotations", weight=1.0)
  with pytest.raises(UserError, match="several answers"):
    list(itertools.islice(dataclasses.replace(plain, sources=(several,)).open(), 3))
