"""`omni compare` against two tokenizers whose units are known: one holds the words, one the pitch."""

import contextlib
import dataclasses
import json

import numpy as np
import pytest

from omni_jax.cli import compare as verb
from omni_jax.cli.main import main
from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES
from omni_jax.evaluate import unit_tasks
from omni_jax.evaluate.unit_probes import ProbeConfig
from omni_jax.evaluate.unit_tasks import Comparison, compare, comparison_table
from omni_jax.prepare.audio import decode_audio
from omni_jax.prepare.reader import open_set
from omni_jax.prepare.schema import Example
from omni_jax.prepare.writer import write_split
from tests.evaluate.worlds import PHONES, make_world, spoken

CONFIG = Comparison(
  tokenizers=("words", "pitches"), training=24, utterances=12,
  probe=ProbeConfig(width=16, depth=1, steps=60, rows=8, learning_rate=3e-2),
)  # fmt: skip
TEXTS = ("red sun", "blue sea", "old cat")


class Known:
  """Encodes every recording of the world by its record: the letters of its words, or its pitch."""

  codebook_size, frame_rate = 40, 25

  def __init__(self, name, turns):
    self._name, self._turns, self.calls = name, turns, 0
    if name == "words":
      self.phones_batch = lambda waveforms: [[PHONES.index(p) for p in self._turn(w).phones.split()] for w in waveforms]

  def encode_batch(self, waveforms):
    self.calls += 1
    return [self._units(self._turn(waveform)) for waveform in waveforms]

  def hear_batch(self, waveforms):
    return [ALL_STYLES[0] for _ in waveforms]

  def _units(self, turn):
    if self._name == "words":
      return np.array([PHONES.index(phone) for phone in turn.phones.split()], np.int32).repeat(2)
    return np.array([30 + unit_tasks.style_of(turn).indices[2], 39] * 10, np.int32)

  def _turn(self, waveform):
    return self._turns[waveform.tobytes()]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("world")
  make_world(workdir)
  grid = [
    Example(f"style-{place}-{style}", "speech", (spoken("user", text, style, seed=900 + 24 * place + number),))
    for place, text in enumerate(TEXTS)
    for number, style in enumerate(ALL_STYLES)
  ]
  write_split(workdir / "corpus" / "styles", "test", grid)
  turns = {}
  for name, split in (("speech", "train"), ("speech", "test"), ("speech", "test_voice"), ("styles", "test")):
    source = open_set(workdir / "corpus" / name, split)
    for index in range(len(source)):
      turns[decode_audio(source[index].turns[0].audio).tobytes()] = source[index].turns[0]
  for stage in CONFIG.tokenizers:
    (workdir / "stages" / stage / "checkpoints" / "7").mkdir(parents=True)
    (workdir / "stages" / stage / "run.json").write_text(
      json.dumps({"format": 1, "fingerprint": stage, "run": {}, "starts": []})
    )
  models = {name: Known(name, turns) for name in (*CONFIG.tokenizers, "style")}
  patch = pytest.MonkeyPatch()
  patch.setattr(unit_tasks, "load_model", lambda stage: (None, models[stage.name]))
  yield workdir, models
  patch.undo()


def quiet(name, total):
  return lambda count: None


@pytest.fixture(scope="module")
def results(world):
  return compare(CONFIG, world[0], progress=quiet)


def value(results, tokenizer, begin):
  rows = [row for row in results["tokenizers"][tokenizer]["figures"] if row["figure"].startswith(begin)]
  assert rows, f"no figure {begin!r}"
  return rows[0]["value"]


def test_units_that_hold_words_hold_phones_and_no_style(results):
  assert value(results, "words", "phones read from reduced units by a small network, seen") < 0.1
  assert value(results, "words", "phones read by the tokenizer itself, seen") == 0
  assert value(results, "words", "same words, any two styles") == 0
  assert value(results, "words", "other words, same style") > 0.4
  assert value(results, "words", "the first over the second") == 0
  assert value(results, "words", "pitch told") == pytest.approx(1 / 3, abs=1e-4)
  assert results["tokenizers"]["words"]["table"]["share kept when reduced"] == pytest.approx(0.5)


def test_units_that_hold_the_pitch_hold_nothing_else(results):
  assert value(results, "pitches", "phones read from reduced units by a small network, seen") > 0.5
  assert value(results, "pitches", "phones read by the tokenizer itself, seen") is None
  assert value(results, "pitches", "same words, only the pitch differs") == pytest.approx(0.5)
  assert value(results, "pitches", "same words, only the emotion differs") == 0
  assert value(results, "pitches", "other words, same style") == 0
  assert value(results, "pitches", "pitch told") == 1
  assert value(results, "pitches", "emotion told") < 0.5


def test_the_waveform_stands_beside_and_sentences_are_the_samples(results):
  row = next(row for row in results["tokenizers"]["words"]["figures"] if row["figure"].startswith("gender told"))
  assert row["n"] == len(TEXTS)
  # What hears one style in everything is right for one gender of two.
  assert row["baselines"]["style encoder on the waveform"]["value"] == 0.5
  table = comparison_table(results)
  assert table.splitlines()[0] == "| | words | pitches | beside |"
  assert all(line.count("|") == 5 for line in table.splitlines()[2:])


def test_what_is_up_to_date_is_not_encoded_again(world, results):
  workdir, models = world
  calls = models["words"].calls
  again = compare(dataclasses.replace(CONFIG, tokenizers=("words",)), workdir, progress=quiet)
  assert again["tokenizers"]["words"] == results["tokenizers"]["words"] and models["words"].calls == calls


def test_a_set_that_lacks_a_style_is_told(world):
  workdir, _ = world
  turns = (spoken("user", "red sun", style, seed=1) for style in ALL_STYLES[1:])
  examples = [Example(f"part-{number}", "speech", (turn,)) for number, turn in enumerate(turns)]
  write_split(workdir / "corpus" / "partial", "test", examples)
  with pytest.raises(UserError, match="in all styles"):
    compare(dataclasses.replace(CONFIG, styles="partial"), workdir, progress=quiet)
  with pytest.raises(UserError, match="each once"):
    dataclasses.replace(CONFIG, tokenizers=("words", "words"))


def test_the_verb_writes_its_table(world, monkeypatch, capsys, tmp_path):
  workdir, _ = world
  monkeypatch.setattr(verb, "load_config", lambda *_, **__: CONFIG)
  monkeypatch.setattr(verb, "enable_compilation_cache", lambda: None)
  monkeypatch.setattr(verb, "progress_bars", lambda: contextlib.nullcontext(quiet))
  assert main(["compare", "--config", "x.py:y", "--workdir", str(workdir)]) == 0
  assert "| words |" in (workdir / "evaluation" / "units" / "table_speech.md").read_text()
  assert "phones read from reduced units" in capsys.readouterr().out
