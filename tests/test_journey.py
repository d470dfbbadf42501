"""The whole journey on a handful of samples: every verb and every config, one after the other, as a user runs them.

The models learn nothing in two steps; what is tested is that each arrow of the journey carries what the next one reads,
and that the run is the same on one device and on eight, and the same after it was killed.
"""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from omni_jax.checkpoint.store import load_model
from omni_jax.cli.main import main
from omni_jax.core import trees
from omni_jax.prepare.audio import load_audio, save_wav
from omni_jax.prepare.reader import open_set
from tests.devices import environment

CORPUS = {
  "text": 80,
  "images": 30,
  "speech": 16,
  "dialogue": 8,
  "text_test": 4,
  "images_test": 4,
  "speech_test": 4,
  "voice_test": 2,
  "dialogue_test": 3,
  "spoken_images_test": 3,
  "pairs": 1,
}
SPEECH_STAGES = ("tokenizer", "style", "vocoder_filters", "vocoder")
LANGUAGE_STAGES = ("pretrain", "prealign", "align", "tune", "tune_without_triples")


def omni(*words):
  status = main([str(word) for word in words])
  assert status == 0, f"omni {' '.join(map(str, words))} returned {status}"


def train(stage, work, *words):
  omni("train", "--config", f"configs/emova/{stage}.py:smoke", "--workdir", work, "--set", "steps=2", *words)


def losses(work, stage):
  lines = (work / "stages" / stage / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line)["loss"] for line in lines]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  work = tmp_path_factory.mktemp("journey")
  sizes = [word for name, number in CORPUS.items() for word in ("--set", f"{name}={number}")]
  omni("corpus", "--config", "configs/emova/corpus.py:smoke", "--workdir", work, *sizes)
  omni("vocabulary", "--config", "configs/emova/vocabulary.py:smoke", "--workdir", work)
  train("tokenizer", work)
  train("style", work)
  omni("encode", "--workdir", work)
  for stage in ("vocoder_filters", "vocoder", *LANGUAGE_STAGES):
    train(stage, work)
  return work


@pytest.mark.parametrize("stage", SPEECH_STAGES + LANGUAGE_STAGES)
def test_every_stage_leaves_a_finite_curve(workdir, stage):
  curve = losses(workdir, stage)
  assert len(curve) == 2 and np.isfinite(curve).all()


def test_a_finished_stage_returns_at_once_and_unchanged(workdir):
  before = (workdir / "stages" / "tune" / "metrics.jsonl").read_bytes()
  train("tune", workdir)
  assert (workdir / "stages" / "tune" / "metrics.jsonl").read_bytes() == before


def test_another_config_does_not_overwrite_a_stage(workdir, capsys):
  words = ("train", "--config", "configs/emova/tune.py:smoke", "--workdir", str(workdir), "--set", "steps=3")
  assert main(list(words)) == 2
  assert "steps: 2 -> 3" in capsys.readouterr().err


def test_prealign_trains_the_projector_only(workdir):
  _, before = load_model(workdir / "stages" / "pretrain")
  _, after = load_model(workdir / "stages" / "prealign")
  old, new = trees.flatten(before), trees.flatten(after)
  changed = {path for path in old if not np.array_equal(old[path], new[path])}
  assert changed and all(path.startswith("projector") for path in changed)


def test_export_convert_and_talk(workdir, capsys):
  omni("export", "vocoder", "--workdir", workdir)
  assert (workdir / "export" / "vocoder.sound.onnx").stat().st_size > 1000
  omni("convert", "export", "--workdir", workdir)
  assert (workdir / "export" / "stock" / "config.json").exists()
  example = open_set(workdir / "corpus" / "spoken_images", "test")[0]
  (workdir / "scene.png").write_bytes(example.image)
  save_wav(workdir / "question.wav", np.sin(np.arange(16000) / 20).astype(np.float32) / 4)
  out = workdir / "answer.wav"
  omni(
    "chat", "--workdir", workdir, "--image", workdir / "scene.png", "--audio", workdir / "question.wav", "--out", out
  )
  said = workdir / "say.wav"
  omni("say", "--workdir", workdir, "--text", "the sky is blue", "--style", "female-happy-high", "--out", said)
  omni("hear", "--workdir", workdir, "--audio", workdir / "question.wav")
  assert len(load_audio(said)) > 0
  assert "whole answer" in capsys.readouterr().out


def test_evaluation_and_report(workdir):
  omni("evaluate", "--workdir", workdir, "--limit", 2)
  results = json.loads((workdir / "evaluation" / "results.json").read_text())
  assert results
  omni("report", "--workdir", workdir)
  page = (workdir / "report.html").read_text()
  assert "<svg" in page and "data:audio" in page and "http://" not in page.replace("http://www.w3.org", "")


def command(work, *words):
  base = [sys.executable, "-m", "omni_jax.cli.main", "train", "--config", "configs/emova/align.py:smoke"]
  return [*base, "--workdir", str(work), "--set", "log_every=1", *words]


@pytest.fixture
def align_folder(workdir, tmp_path):
  """A working folder that shares everything with the journey but its `align` stage."""
  for name in ("corpus", "units", "text"):
    (tmp_path / name).symlink_to(workdir / name)
  (tmp_path / "stages").mkdir()
  (tmp_path / "stages" / "prealign").symlink_to(workdir / "stages" / "prealign")
  return tmp_path


def test_eight_devices_give_the_losses_of_one(align_folder, tmp_path_factory):
  curves = {}
  for devices, mesh in ((1, "fsdp=1"), (8, "fsdp=4,tensor=2")):
    words = command(align_folder, "--set", "steps=20", "--mesh", mesh, "--overwrite")
    subprocess.run(words, check=True, env=environment(devices), capture_output=True)
    curves[devices] = losses(align_folder, "align")
  assert len(curves[1]) == 20
  np.testing.assert_allclose(curves[8], curves[1], rtol=1e-5)


def test_a_killed_run_goes_on_to_the_same_bits(align_folder):
  words = command(align_folder, "--set", "steps=8", "--set", "save_every=2")
  subprocess.run(words, check=True, capture_output=True)
  stage = align_folder / "stages" / "align"
  expected = {path: np.asarray(leaf) for path, leaf in trees.flatten(load_model(stage)[1]).items()}
  stage.rename(align_folder / "finished")
  process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  metrics = stage / "metrics.jsonl"
  while process.poll() is None and not (metrics.exists() and len(metrics.read_text().splitlines()) >= 5):
    time.sleep(0.05)
  assert process.poll() is None, "the run ended before it could be killed"
  process.send_signal(signal.SIGKILL)
  process.wait()
  subprocess.run(words, check=True, capture_output=True)
  for path, leaf in trees.flatten(load_model(stage)[1]).items():
    np.testing.assert_array_equal(np.asarray(leaf), expected[path], err_msg=path)
