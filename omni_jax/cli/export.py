"""Write the vocoder as one ONNX file that needs nothing of ours: units and a style in, a 16 kHz waveform out.

The file is run in onnxruntime against JAX first, and written to WORKDIR/export/vocoder.onnx only if both sound the
same. Inputs: `units` int64 [U] (reduced), `style` int64 [3] (gender, emotion, pitch; the order is in the metadata).
"""

import argparse
from pathlib import Path

from omni_jax.checkpoint.store import load_model
from omni_jax.core.compilation_cache import enable_compilation_cache
from omni_jax.export.vocoder_onnx import export_vocoder

EXAMPLE = "omni export vocoder --workdir runs/tiny"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni export`."""
  parser.add_argument("what", choices=("vocoder",), help="the part to export")
  parser.add_argument("--workdir", required=True, type=Path, help="the working folder, for example runs/tiny")
  parser.add_argument("--stage", default="vocoder", help="the stage that trained it")
  parser.add_argument("--out", type=Path, help="the file to write; WORKDIR/export/vocoder.onnx if not given")


def run(arguments: argparse.Namespace) -> None:
  """Exports."""
  enable_compilation_cache()
  _, model = load_model(arguments.workdir / "stages" / arguments.stage)
  report = export_vocoder(model, arguments.out or arguments.workdir / "export" / "vocoder.onnx")
  print(f"{report.path}: {report.num_bytes / 1e6:.1f} MB, differs from JAX by {report.difference:.1e} of the sound")
