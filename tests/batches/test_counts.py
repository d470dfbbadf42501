import numpy as np
import pytest

from omni_jax.batches import counts
from omni_jax.batches.counts import COUNT, count, counts_path
from omni_jax.batches.packing import fields
from omni_jax.batches.sources import VIEWS, Source, Writer
from omni_jax.core.errors import UserError
from omni_jax.prepare.reader import ExampleSource
from omni_jax.prepare.schema import Example
from omni_jax.prepare.writer import write_split
from omni_jax.tokens.answers import NativeLayout
from omni_jax.tokens.dialogue import load_dialogue
from omni_jax.tokens.templates import TINY
from omni_jax.tokens.vocabulary import UNIT
from tests.batches.test_sources import IMAGES, SETS, TILES


@pytest.fixture
def dialogue(workdir):
  return load_dialogue(workdir / "text", template=TINY, layout=NativeLayout(text_chunk=2, unit_chunk=5))


def parts(view, dialogue, workdir, *, images=IMAGES, length=None):
  folder = workdir / "units" / SETS.get(view, "annotations")
  writer = Writer(
    Source(folder=folder, split="train", view=view, weight=1.0), dialogue=dialogue, images=images, length=length
  )
  return ExampleSource(folder, "train"), writer


def nobody(name, reason):
  raise AssertionError(f"{name}: {reason}")


@pytest.mark.parametrize("images", [IMAGES, TILES])
@pytest.mark.parametrize("view", VIEWS)
def test_a_count_is_the_length_of_the_sample(view, images, dialogue, workdir, tmp_path):
  records, writer = parts(view, dialogue, workdir, images=images)
  made = count(records, writer, styles=(False, True), path=tmp_path / "a" / "x.counts", aside=nobody)
  kinds = dialogue.vocabulary.kinds()
  for index, row in enumerate(made.counts):
    for heard in (False, True):
      sample = writer(records[index], hear_style=heard)
      again = writer.sample(made.grid(index, heard=heard), images.read([records[index].image][: row["images"]]))
      for name, array in fields(sample).items():
        np.testing.assert_array_equal(fields(again)[name], array) if name != "tiles" else None
        assert fields(again)[name].dtype == array.dtype and len(fields(again)[name]) == len(array)
      assert row["tokens"][int(heard)] == len(sample.tokens)
    arrays = list(sample.images.values())
    assert row["pieces"] == len(arrays[0])
    assert row["image_tokens"] == (sample.tokens == dialogue.vocabulary.control("image")).sum()
    assert row["units"] == (kinds[sample.tokens] == UNIT).sum()


@pytest.mark.parametrize("length", [40, 56])
def test_a_cut_sample_is_counted_as_cut(length, dialogue, workdir, tmp_path):
  records, writer = parts("dialogue", dialogue, workdir, length=length)
  aside = []
  counted = count(
    records, writer, styles=(True,), path=tmp_path / "x.counts", aside=lambda *line: aside.append(line)
  ).counts
  assert len(aside) == (counted["tokens"] < 0).all(axis=1).sum() < len(records)
  for index, row in enumerate(counted):
    if row["tokens"][1] > 0:
      sample = writer(records[index], hear_style=True)
      assert row["tokens"].tolist() == [0, len(sample.tokens)] and row["pieces"] == len(sample.images["patches"])


def test_counting_goes_on_where_it_was_killed(dialogue, workdir, tmp_path, monkeypatch):
  monkeypatch.setattr(counts, "_TOGETHER", 4)
  records, writer = parts("text", dialogue, workdir)
  whole = count(records, writer, styles=(True,), path=tmp_path / "whole.counts", aside=nobody)

  def killed(blocks):
    for number, start in enumerate(blocks):
      if number == 3:
        raise KeyboardInterrupt
      yield start

  path = tmp_path / "x.counts"
  with pytest.raises(KeyboardInterrupt):
    count(records, writer, styles=(True,), path=path, aside=nobody, progress=killed)
  for partial in tmp_path.glob("x.*.partial"):
    partial.write_bytes(partial.read_bytes() + b"torn")
  seen = []
  again = count(records, writer, styles=(True,), path=path, aside=nobody, progress=lambda b: seen.extend(b) or b)
  assert again.counts.tobytes() == whole.counts.tobytes() and again.words.tobytes() == whole.words.tobytes()
  assert seen == [12, 16] and not list(tmp_path.glob("*.partial"))


def test_what_cannot_be_used_is_told_and_other_voices_are_left_out(dialogue, workdir, tmp_path):
  records, writer = parts("dialogue", dialogue, workdir)
  broken = [records[0], Example("broken", "text", records[0].turns[:1]), records[1]]
  write_split(tmp_path / "set", "train", broken)
  told = []
  own = ExampleSource(tmp_path / "set", "train")
  counted = count(own, writer, styles=(True,), path=tmp_path / "x.counts", aside=lambda *line: told.append(line)).counts
  assert [name for name, _ in told] == ["broken"] and (counted["tokens"] < 0).any(axis=1).tolist() == [0, 1, 0]
  voice = records[0].turns[-1].voice
  some = count(records, writer, styles=(True,), path=tmp_path / "y.counts", aside=nobody, voices=(voice,)).counts
  spoken = [records[index].turns[-1].voice == voice for index in range(len(records))]
  assert (some["tokens"][:, 1] > 0).tolist() == spoken


def test_counts_of_other_records_have_another_name_and_are_refused(dialogue, workdir, tmp_path):
  records, writer = parts("text", dialogue, workdir)
  other, _ = parts("image_text", dialogue, workdir)
  names = [counts_path(tmp_path, own, view="text", key=key) for own in (records, other) for key in (1, 2)]
  assert len(set(names)) == 4
  names[0].write_bytes(bytes(3 * COUNT.itemsize))
  with pytest.raises(UserError, match="for 20 records"):
    count(records, writer, styles=(True,), path=names[0], aside=nobody)
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot write"):
    count(records, writer, styles=(True,), path=tmp_path / "file" / "x.counts", aside=nobody)
