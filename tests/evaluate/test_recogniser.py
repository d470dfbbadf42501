"""The independent recogniser: silence, order independence, processes, and understanding where flite speaks."""

import shutil
import subprocess

import numpy as np
import pytest

pytest.importorskip("pocketsphinx")

from omni_jax.evaluate import recogniser, scores

SENTENCES = ("the red circle is on the left of the star", "please open the window before you go")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
  if not shutil.which("flite"):
    pytest.skip("flite is not installed")
  soundfile = pytest.importorskip("soundfile")
  folder = tmp_path_factory.mktemp("flite")
  waveforms = []
  for index, sentence in enumerate(SENTENCES):
    path = folder / f"{index}.wav"
    subprocess.run(["flite", "-voice", "slt", "-t", sentence, "-o", str(path)], check=True)
    waveforms.append(soundfile.read(path, dtype="float32")[0])
  return waveforms


def test_silence_says_nothing():
  waveforms = [np.zeros(0, np.float32), np.zeros(8000, np.float32)]
  assert recogniser.transcribe(waveforms, workers=1) == ["", ""]


def test_flite_is_understood_in_any_order_and_process(recordings):
  advanced = []
  forward = recogniser.transcribe(recordings, workers=1, advance=lambda: advanced.append(1))
  backward = recogniser.transcribe([*recordings[::-1], *recordings], workers=2)
  assert forward == backward[:2][::-1] == backward[2:]
  assert len(advanced) == 2
  assert scores.word_errors(SENTENCES, forward).score.value < 0.4
