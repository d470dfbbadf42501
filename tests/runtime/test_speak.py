"""The runtime tells what it cannot speak, and speaks where nothing but numpy and onnxruntime is installed."""

import os
import re
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from omni_jax.export.vocoder import export_onnx
from omni_jax.speech.conditions import CONDITIONS
from tests.runtime.speakers import FILE, exported_voice, load_runtime
from tests.speech.drawn import drawn_model
from tests.speech.small_vits import small_config
from tests.speech.vocoders import make_vocoder, random_units

UNITS = "<|speech_3|><|speech_7|> <5> 0,11"  # of both vocoders


@pytest.fixture
def stem():
  return exported_voice()[0]


def test_it_is_an_example():
  lines = FILE.read_text().splitlines()
  assert len(lines) <= 100
  imported = {line.split()[1].split(".")[0] for line in lines if re.match(r"(import|from) ", line)}
  assert imported - sys.stdlib_module_names == {"numpy", "onnxruntime"}


def test_units_are_read_in_every_spelling(stem):
  voice = load_runtime().Voice(str(stem))
  written = np.concatenate(list(voice.pieces(UNITS, CONDITIONS[0])))
  np.testing.assert_array_equal(written, np.concatenate(list(voice.pieces([3, 7, 5, 0, 11], CONDITIONS[0]))))


@pytest.mark.parametrize(
  ("units", "style", "message"),
  [
    ("3 20", CONDITIONS[0], r"3 to 20: .* 0\.\.19"),
    ("3 -1", CONDITIONS[0], r"-1 to 3"),
    ("", CONDITIONS[0], "0 units"),
    ([3, 4.5], CONDITIONS[0], r"3 to 4\.5: .* whole numbers"),
    ([3, np.nan], CONDITIONS[0], "2 units, .* whole numbers"),
    ("three", CONDITIONS[0], "not 'three'"),
    ("<|speech_-3|>", CONDITIONS[0], r"not '<\|speech_-3\|>'"),
    ("3", "cheerful", "'cheerful' is none of the 126"),
    ("3", None, "None is none of the 126"),
    ("3", CONDITIONS[0].replace("female", "femail"), CONDITIONS[0]),
  ],
)
def test_what_cannot_be_spoken_is_told(stem, units, style, message):
  with pytest.raises(ValueError, match=message):
    list(load_runtime().Voice(str(stem)).pieces(units, style))


def test_damaged_files_are_told(stem, tmp_path):
  runtime, whole = load_runtime(), Path(f"{stem}.sound.onnx").read_bytes()
  damaged = tmp_path / "voice.sound.onnx"
  Path(tmp_path / "voice.units.onnx").write_bytes(Path(f"{stem}.units.onnx").read_bytes())
  for size in (0, 10, len(whole) // 2, len(whole) - 300, len(whole) - 1):
    damaged.write_bytes(whole[:size])
    with pytest.raises(ValueError, match=r"voice\.sound\.onnx is missing, damaged or no vocoder"):
      runtime.Voice(str(tmp_path / "voice"))
  damaged.write_bytes(whole)
  runtime.Voice(str(tmp_path / "voice"))
  export_onnx(drawn_model(small_config(), seed=1), tmp_path / "other")
  (tmp_path / "other.units.onnx").replace(tmp_path / "voice.units.onnx")
  with pytest.raises(ValueError, match="not of one export"):
    runtime.Voice(str(tmp_path / "voice"))
  with pytest.raises(ValueError, match=r"nothing\.sound\.onnx is missing"):
    runtime.Voice(str(tmp_path / "nothing"))


def test_a_device_that_is_not_there_is_told(stem, monkeypatch):
  runtime = load_runtime()
  monkeypatch.setattr(runtime.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
  with pytest.raises(ValueError, match="no CUDAExecutionProvider"):
    runtime.Voice(str(stem), device="cuda")


def test_it_speaks_with_the_vocoder_that_lays_time_out_itself(tmp_path):
  export_onnx(make_vocoder(), tmp_path / "vocoder")
  voice, units = load_runtime().Voice(str(tmp_path / "vocoder")), random_units(9)
  (samples,) = voice.pieces(units, "male-sad-low")
  assert samples.ndim == 1 and np.abs(samples).max() > 1e-3
  with pytest.raises(ValueError, match="'male-sad' is none of the 24"):
    voice.pieces(units, "male-sad")


def _alone(folder: Path) -> Path:
  """Returns a folder that holds numpy and onnxruntime only, as links to what is installed."""
  folder.mkdir()
  installed = Path(np.__file__).parents[1]
  for name in ("numpy", "numpy.libs", "onnxruntime"):
    if (installed / name).exists():
      (folder / name).symlink_to(installed / name)
  return folder


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rate"), [("VITS", 22_050), ("inverse STFT", 16_000)])
def test_it_speaks_where_nothing_else_is_installed(kind, rate, tmp_path):
  if kind == "VITS":
    stem, style, last = exported_voice()[0], CONDITIONS[0], 19
  else:
    stem, style, last = tmp_path / "vocoder", "male-sad-low", make_vocoder().codebook_size - 1
    export_onnx(make_vocoder(), stem)
  environment = {"PYTHONPATH": str(_alone(tmp_path / "alone")), "PATH": os.environ["PATH"]}

  def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-S", str(FILE), *arguments]
    return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)

  missing = subprocess.run([sys.executable, "-S", "-c", "import jax"], env=environment, capture_output=True)
  assert missing.returncode, "the path is isolated"
  spoken = {}
  for name, options in {"whole": [], "pieces": ["--stream", "16"]}.items():
    done = run(str(stem), UNITS, f"{name}.wav", "--style", style, *options)
    assert not done.returncode, done.stderr
    with wave.open(str(tmp_path / f"{name}.wav")) as file:
      assert file.getframerate() == rate and file.getnchannels() == 1
      spoken[name] = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(int)
  assert len(spoken["whole"]) > 100 and np.abs(spoken["whole"]).max() > 300
  assert np.abs(spoken["whole"] - spoken["pieces"]).max() <= 1
  wrong = run(str(stem), "99999", "wrong.wav", "--style", style)
  assert wrong.returncode == 2 and f"0..{last}" in wrong.stderr and not (tmp_path / "wrong.wav").exists()
  nowhere = run(str(stem), UNITS, "nowhere/said.wav", "--style", style)
  assert nowhere.returncode == 2 and "error: " in nowhere.stderr and "nowhere/said.wav" in nowhere.stderr
  assert "Traceback" not in nowhere.stderr
