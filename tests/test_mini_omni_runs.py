"""The stages of configs/mini_omni in miniature: what may change changes, and all eight rows learn."""

import dataclasses
import types

import jax
import numpy as np
import pytest

from configs.mini_omni import recipe, scales
from omni_jax.batches.grids import TASKS_OF_VIEWS
from omni_jax.cli.configs import load_config
from omni_jax.core.errors import UserError
from omni_jax.generate import row_assistant
from omni_jax.generate.exchange import Question
from omni_jax.generate.loading import load_assistant
from omni_jax.models.mini_omni import mini_omni
from omni_jax.prepare.recordings import RecordingLayout
from omni_jax.speech.whisper import sinusoids
from omni_jax.tokens.text import train_text_tokenizer
from omni_jax.train.loop import Run, train
from omni_jax.train.metrics import read_metrics
from tests.batches.conftest import WORDS
from tests.batches.test_grids import HEARING, LAYOUT, write_coded
from tests.generate.test_row_assistant import CODEC
from tests.models.test_mini_omni import WHISPER
from tests.models.twins import decoder_config
from tests.train.stages import params_of

SCALE = dataclasses.replace(
  scales.SMOKE,
  model=mini_omni(
    decoder_config(),
    layout=LAYOUT,
    hearing=dataclasses.replace(WHISPER, num_positions=HEARING.most),
    inputs=12,
    speaker=1,
  ),
  length=64,
  rates=(3e-2,) * 4,
  floor=1e-3,
  steps=(6, 6, 6, 24),
  algorithm="adamw",
  voices=(),
)  # fmt: skip
STAGES = (recipe.adapters, recipe.language, recipe.omni)
LEARNS = {
  recipe.BASE: {"decoder", "hearing", "adapter"},
  recipe.ADAPTERS: {"adapter", "speaker"},
  recipe.LANGUAGE: {"decoder"},
  recipe.OMNI: {"decoder", "adapter", "speaker"},
}


def write_world(work):
  write_coded(work)
  texts = [" ".join(np.random.default_rng(i).choice(WORDS, 4)) for i in range(100)]
  train_text_tokenizer(texts, path=work / "text" / "tokenizer.model", num_pieces=320)


def test_the_last_stage_teaches_all_rows_and_leaves_the_encoder(tmp_path):
  write_world(tmp_path)
  run = dataclasses.replace(recipe.omni(tmp_path, scale=SCALE), log_every=1, start=())
  stage = train(run, tmp_path)
  lines = read_metrics(stage)
  for row in ("text", "audio_0", "audio_6"):
    curve = [line[f"loss_{row}"] for line in lines if f"loss_{row}" in line]
    assert np.mean(curve[-4:]) < 0.95 * np.mean(curve[:4]), row
  rates = [line["learning_rate"] for line in lines]
  assert max(rates) == pytest.approx(3e-2) and rates[-1] < 2e-3 and min(rates) >= 1e-3
  trained = params_of(stage)
  # The positions of the encoder are its only leaf that is known beforehand; scales start at one.
  expected = sinusoids(HEARING.most, run.model.hearing.encoder.width)
  np.testing.assert_array_equal(trained["hearing.positions"], expected)
  assert (trained["hearing.norm.scale"] == 1).all() and (trained["decoder.norm.scale"] != 1).any()


@pytest.mark.slow
def test_any_language_model_can_talk(tmp_path):
  """The same recipe on a decoder of Llama's kind: tables apart, queries without offsets."""
  write_world(tmp_path)
  model = mini_omni(
    decoder_config(tied=False, qkv_bias=False), layout=LAYOUT, hearing=SCALE.model.hearing, inputs=12, speaker=1
  )
  scale = dataclasses.replace(SCALE, model=model, steps=(6, 6, 6, 16))
  stage = train(dataclasses.replace(recipe.omni(tmp_path, scale=scale), log_every=1, start=()), tmp_path)
  lines = read_metrics(stage)
  for row in ("text", "audio_0", "audio_6"):
    curve = [line[f"loss_{row}"] for line in lines if f"loss_{row}" in line]
    assert np.mean(curve[-4:]) < 0.97 * np.mean(curve[:4]), row
  trained = params_of(stage)
  assert "decoder.head.text" in trained and "decoder.blocks.attention.query.bias" not in trained


@pytest.mark.parametrize("stage", ["base", "adapters", "language", "omni", "full_adapters", "full_omni"])
def test_configs_of_a_llama_are_runs(tmp_path, stage):
  run = load_config(f"configs/mini_omni/llama.py:{stage}", returns=Run, arguments=(tmp_path,))
  decoder = run.model.decoder
  assert not decoder.tied and not decoder.qkv_bias and run.data.layout == run.model.layout
  assert (decoder.width, run.model.layout.num_pieces) == ((4096, 128_256) if "full" in stage else (256, 768))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
  """A working folder in which all stages were trained."""
  work = tmp_path_factory.mktemp("mini_omni")
  write_world(work)
  # No encoder was trained before: `configs/mini_omni/hearing.py` does it where one is needed.
  train(dataclasses.replace(recipe.base(work, scale=SCALE), log_every=1, start=()), work)
  for stage in STAGES:
    train(dataclasses.replace(stage(work, scale=SCALE), log_every=1), work)
  return work


@pytest.mark.slow
def test_each_stage_changes_what_it_may(work):
  before = None
  for name, parts in LEARNS.items():
    after = params_of(work / "stages" / name)
    if before is not None:
      same = {path for path in after if np.array_equal(before[path], after[path])}
      new = {"adapter", "speaker"} if name == recipe.ADAPTERS else set()
      frozen = {path for path in after if path.partition(".")[0] not in parts | new}
      assert frozen <= same, f"{name}: {sorted(frozen - same)[:4]}"
      moved = {path.partition(".")[0] for path in set(after) - same}
      assert moved == parts
    before = after


@pytest.mark.slow
def test_rows_that_a_stage_does_not_teach_have_no_loss(work):
  lines = {name: read_metrics(work / "stages" / name) for name in LEARNS}
  assert not [line for line in lines[recipe.LANGUAGE] if "loss_audio_0" in line]
  assert any("loss_audio_6" in line and "text_A1T1" in line for line in lines[recipe.ADAPTERS])
  seen = {key for line in lines[recipe.OMNI] for key in line}
  assert {f"text_{task.name}" for task in TASKS_OF_VIEWS.values() if task.learns_text} <= seen
  assert {f"audio_{task.name}" for task in TASKS_OF_VIEWS.values() if task.speaks} <= seen


@pytest.mark.slow
def test_the_assistant_of_the_last_stage_answers(work, monkeypatch):
  codec = jax.jit(lambda: dataclasses.replace(CODEC, codebook_size=LAYOUT.num_codes).make(key=jax.random.key(0)))()
  other = types.SimpleNamespace(num_codebooks=7, codebook_size=99)
  held = [codec, other]
  monkeypatch.setattr(row_assistant, "load_codec", lambda workdir, *, stage, vocoder: held.pop(0))
  assistant = load_assistant(work, stage=recipe.OMNI)
  spoken, typed = assistant.answer([Question(waveform=np.ones(4000) / 2), Question(text=WORDS[0])])
  assert len(spoken.waveform) == len(spoken.units) * codec.hop and not len(typed.units)
  assert len(assistant.recognise([np.ones(4000) / 2])) == 1
  with pytest.raises(UserError, match="7 codes a frame out of 99"):
    load_assistant(work, stage=recipe.OMNI)


@pytest.mark.parametrize("size", ["tiny", "smoke", "full"])
@pytest.mark.parametrize("stage", ["hearing", "base", "adapters", "language", "omni"])
def test_published_configs_are_runs(tmp_path, stage, size):
  if stage in ("hearing", "base") and size == "full":
    return  # released weights take their place
  run = load_config(f"configs/mini_omni/{stage}.py:{size}", returns=Run, arguments=(tmp_path,))
  if stage == "hearing":
    assert run.name == recipe.HEARING and run.model.hearing == scales.TINY.model.hearing
    return
  model, data = run.model, run.data
  assert data.layout == model.layout and data.hearing == model.hearing.layout
  if size == "full":
    assert data.hearing == RecordingLayout() and model.decoder.width == 896 and model.speaker_depth == 6
    assert run.optimizer.floor == 4e-6
