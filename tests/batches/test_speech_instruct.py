import dataclasses

import numpy as np
import pytest

from omni_jax.batches.sources import Source
from omni_jax.batches.speech_instruct import _VIEWS, InstructBatches, InstructWriter, Kind
from omni_jax.core.errors import UserError
from omni_jax.prepare.reader import open_set
from omni_jax.prepare.schema import Example, Turn
from omni_jax.tokens.speech_gpt import PAPER, SAY, TRANSCRIBE, parse_answer
from omni_jax.tokens.units import reduce_units
from omni_jax.tokens.vocabulary import UNIT


def batches(workdir, kind, *views, **options):
  sources = tuple(
    Source(
      folder=workdir / "units" / ("speech" if view in ("recognise", "synthesise") else "dialogue"),
      split="train",
      view=view,
      weight=1.0,
    )
    for view in views
  )
  fields = {"rows": 2, "length": 800, "seed": 0, "num_units": 64, "template": PAPER, **options}
  return InstructBatches(
    text=workdir / "text", kind=kind, sources=sources, quarantine=workdir / "aside.jsonl", **fields
  )


def pairs():
  return [(kind, view) for kind in Kind for view in _VIEWS[kind]]


@pytest.mark.parametrize(("kind", "view"), pairs())
def test_every_view_writes_what_it_says(workdir, kind, view):
  config = batches(workdir, kind, view)
  writer = config.writer()
  write = InstructWriter(config.sources[0], batches=config, writer=writer)
  records = open_set(config.sources[0].folder, "train")
  for number in range(4):
    record = records[number]
    sample = write(record, hear_style=True)
    np.testing.assert_array_equal(sample.tokens[1:], sample.targets[:-1])
    kinds = writer.vocabulary.kinds()[sample.targets]
    np.testing.assert_array_equal(sample.target_kind, kinds * (sample.loss_mask > 0))
    spelt = writer.spell([*sample.tokens.tolist(), int(sample.targets[-1])])
    first, last = record.turns[0], record.turns[-1]
    said = [spelt.count("<sosp>"), spelt.count("<eosp>")]
    if kind is Kind.LINES:
      units = "".join(f"<{unit}>" for unit in reduce_units(last.units)[0])
      assert spelt == f"<s><sosp>{units}<eosp>" and (sample.loss_mask == 1).all()
      continue
    asked, _, answered = spelt.partition("[SpeechGPT]")
    answer = parse_answer(answered.removeprefix(":"))
    assert answer.problem == ""
    speaks = view in ("synthesise", "dialogue", "spoken_reply")
    hears = view in ("recognise", "dialogue", "written_reply")
    assert said == [speaks + hears] * 2
    assert answer.units.tolist() == (reduce_units(last.units)[0].tolist() if speaks else [])
    assert ("<sosp>" in asked) == hears
    if view == "recognise":
      assert any(text in asked for text in TRANSCRIBE) and answer.text == first.text
    if view == "synthesise":
      assert any(text in asked for text in SAY) and first.text in asked
    if kind is Kind.CHAIN:
      assert (answer.text, answer.heard_text) == (last.text, first.text if hears else "")


def test_batches_are_packed_and_long_samples_are_cut(workdir):
  config = batches(workdir, Kind.CROSS_MODAL, "recognise", "synthesise", "text", length=40)
  batch = next(iter(config.open()))
  assert batch["tokens"].shape == (2, 40) and set(np.unique(batch["segment_ids"])) <= {0, 1}
  lines = next(iter(batches(workdir, Kind.LINES, "synthesise", length=64).open()))
  assert lines["segment_ids"].max() > 1 and (lines["target_kind"] == UNIT).any()


def test_what_cannot_be_written_is_refused(workdir):
  with pytest.raises(UserError, match="views dialogue"):
    batches(workdir, Kind.CROSS_MODAL, "dialogue")
  both = dataclasses.replace(batches(workdir, Kind.CHAIN, "dialogue").sources[0], other_views=("recognise",))
  with pytest.raises(UserError, match="views recognise"):
    dataclasses.replace(batches(workdir, Kind.CHAIN, "dialogue"), sources=(both,))
  changing = dataclasses.replace(batches(workdir, Kind.CROSS_MODAL, "recognise").sources[0], changes=((5, 0.0),))
  with pytest.raises(UserError, match="need a planned order"):
    dataclasses.replace(batches(workdir, Kind.CROSS_MODAL, "recognise"), sources=(changing,)).open()
  config = batches(workdir, Kind.CHAIN, "dialogue")
  write = InstructWriter(config.sources[0], batches=config, writer=config.writer())
  with pytest.raises(UserError, match="without units"):
    write(Example("x", "text", (Turn("user", "dog"), Turn("assistant", "old"))), hear_style=False)
  with pytest.raises(UserError, match="turns of user"):
    write(Example("x", "text", (Turn("user", "dog"),)), hear_style=False)
