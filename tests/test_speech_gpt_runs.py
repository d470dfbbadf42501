"""The stages of configs/speechgpt in miniature: units alone, cross-modal instructions, chains by adapters."""

import dataclasses
import shutil

import numpy as np
import pytest

from configs.speechgpt import recipe, scales
from omni_jax.batches.speech_instruct import Kind
from omni_jax.cli.configs import load_config
from omni_jax.core.errors import UserError
from omni_jax.generate import speech_stages
from omni_jax.generate.exchange import Question
from omni_jax.generate.loading import load_assistant
from omni_jax.nn.lora import AdaptedConfig
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.writer import write_split
from omni_jax.tokens.text import train_text_tokenizer
from omni_jax.train.loop import Run, train
from omni_jax.train.metrics import read_metrics
from tests.batches.conftest import WORDS, examples
from tests.generate.conftest import FakeTokenizer, FakeVocoder
from tests.models.twins import decoder_config
from tests.train.stages import params_of

SCALE = dataclasses.replace(
  scales.SMOKE,
  base=decoder_config(qkv_bias=False, tied=False),
  num_units=64,
  rows=(2, 1, 1),
  length=(64, 128, 512),
  steps=(12, 4, 4),
  rates=(2e-2, 1e-2, 1e-2),
  rank=2,
  block=8,
  algorithm="adamw",
  unit_levels=(),
  voices=(),
  requests=True,
)


def write_text(folder):
  draw = np.random.default_rng(0)
  texts = [" ".join(draw.choice(WORDS, 4)) for _ in range(100)]
  train_text_tokenizer(texts, path=folder / "text" / "tokenizer.model", num_pieces=320)


def write_world(work):
  draw = np.random.default_rng(0)
  for kind in ("speech", "dialogue"):
    write_split(work / "units" / kind, "train", examples(kind, draw))
  texts = [Example(f"text/{i}", "text", (Turn("user", " ".join(draw.choice(WORDS, 4))),)) for i in range(12)]
  write_split(work / "corpus" / "text", "train", texts)
  write_text(work)


def test_units_are_learned_first(tmp_path):
  write_world(tmp_path)
  lines = read_metrics(train(dataclasses.replace(recipe.units(tmp_path, scale=SCALE), log_every=1), tmp_path))
  assert lines[-1]["loss_unit"] < 0.95 * lines[0]["loss_unit"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
  """A working folder in which all stages were trained."""
  work = tmp_path_factory.mktemp("speech_gpt")
  write_world(work)
  for stage in (recipe.units, recipe.cross_modal, recipe.chain):
    train(dataclasses.replace(stage(work, scale=SCALE), log_every=1), work)
  return work


@pytest.mark.slow
def test_adapters_alone_learn_the_chains(work):
  before, after = params_of(work / "stages" / recipe.CROSS), read_metrics(work / "stages" / recipe.CHAIN)
  assert all(np.isfinite(line["loss"]) for line in after)
  stored = params_of(work / "stages" / recipe.CHAIN)
  base = {path.removeprefix("base."): leaf for path, leaf in stored.items() if path.startswith("base.")}
  assert base and all(np.array_equal(leaf, before[path]) for path, leaf in base.items() if path in before)
  pairs = [path for path in stored if path.startswith("pairs.")]
  assert len(pairs) == 4 and all("attention.query" in path or "attention.value" in path for path in pairs)
  assert any(np.abs(stored[path]).max() > 0 for path in pairs if path.endswith("up"))


@pytest.mark.parametrize("size", ["tiny", "smoke", "full"])
@pytest.mark.parametrize("stage", ["units", "cross_modal", "chain"])
def test_published_configs_are_runs(tmp_path, stage, size):
  write_text(tmp_path)
  run = load_config(f"configs/speechgpt/{stage}.py:{size}", returns=Run, arguments=(tmp_path,))
  assert run.data.kind is {"units": Kind.LINES, "cross_modal": Kind.CROSS_MODAL, "chain": Kind.CHAIN}[stage]
  adapted = isinstance(run.model, AdaptedConfig)
  assert adapted == (stage == "chain")
  if adapted:
    rank = 8 if size == "full" else 32  # the paper's, and what a decoder from nothing needs
    assert run.model.rank == rank and run.model.alpha == 2 * rank
    assert (run.model.bits, run.model.dropout) == ("int8", 0.05)
  shutil.rmtree(tmp_path / "text")


@pytest.mark.slow
def test_the_assistant_asks_as_its_stages_learned(work, monkeypatch):
  held = {"tokenizer": FakeTokenizer(), "vocoder": FakeVocoder()}
  monkeypatch.setattr(speech_stages, "load_model", lambda folder: (None, held[folder.name]))
  assistant = load_assistant(work, stage=recipe.CHAIN)
  asked = assistant._writer.spell(assistant._script.ask_to_say("dog"))
  assert scales.TINY.descriptions[1][0] in asked and asked.endswith("<eoh> [SpeechGPT]:")
  spoken, typed = assistant.answer([Question(waveform=np.ones(4000)), Question(text=WORDS[0])])
  assert len(spoken.heard_units) and not len(typed.units)
  assert assistant.recognise([np.ones(4000)])[0]
  with pytest.raises(UserError, match="was trained on CROSS_MODAL"):
    load_assistant(work, stage=recipe.CROSS)
