"""`runtime/speak.py` as a module, and a small voice exported for it."""

import functools
import importlib.util
import tempfile
from pathlib import Path

import numpy as np

from omni_jax.export.onnx_files import ExportReport
from omni_jax.export.vocoder import export_onnx
from omni_jax.speech.conditions import CONDITIONS, Centroids
from omni_jax.speech.unit_voice import Delivery, UnitVoice
from tests.speech.small_vits import CONDITION, draw, small_model

QUIET = Delivery(noise=0.0, duration_noise=0.0, length=16.0)
VOICE = UnitVoice(small_model(), centroids=Centroids(CONDITIONS, np.asarray(draw((126, CONDITION)))), delivery=QUIET)
_FOLDER = tempfile.TemporaryDirectory()
FILE = Path(__file__).parents[2] / "runtime" / "speak.py"


def load_runtime():
  spec = importlib.util.spec_from_file_location("speak", FILE)
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@functools.cache
def exported_voice() -> tuple[Path, ExportReport]:
  """The stem of VOICE in a folder that goes with the process, and the report."""
  stem = Path(_FOLDER.name) / "voice"
  return stem, export_onnx(VOICE, stem)
