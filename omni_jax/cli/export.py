"""Write a vocoder for other runtimes, once its output there equals that of JAX; nothing is left behind otherwise.

onnx       for onnxruntime on any CPU or GPU; `runtime/speak.py` speaks with it and needs numpy and onnxruntime only.
           One file, or two where a runtime repeats units for as many frames as they last in between: STEM.onnx, or
           STEM.units.onnx and STEM.sound.onnx. Metadata says sample rate, hop, units, styles, context and parity.

By default STEM is WORKDIR/export/STAGE.
"""

import argparse
from pathlib import Path

from omni_jax.checkpoint.store import load_model
from omni_jax.core.compilation_cache import enable_compilation_cache
from omni_jax.export.vocoder import NOT_STATED, export_onnx

EXAMPLE = """omni export vocoder --workdir runs/tiny
  omni export vocoder --workdir runs/emova --stage voice --format onnx --licence Apache-2.0"""
FORMATS = ("onnx",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni export`."""
  parser.add_argument("what", choices=("vocoder",), help="the part to export")
  parser.add_argument("--workdir", required=True, type=Path, help="the working folder, for example runs/tiny")
  parser.add_argument("--stage", default="vocoder", help="the stage that trained it; now vocoder")
  parser.add_argument("--format", default="onnx", choices=FORMATS, help="now onnx")
  parser.add_argument("--out", type=Path, metavar="STEM", help="path of what is written, without endings")
  parser.add_argument("--licence", default=NOT_STATED, help="of the weights, kept in the file")


def run(arguments: argparse.Namespace) -> None:
  """Exports."""
  enable_compilation_cache()
  stage = arguments.workdir / "stages" / arguments.stage
  _, model = load_model(stage)
  stem = arguments.out or arguments.workdir / "export" / arguments.stage
  stem = stem.with_suffix("") if stem.suffix == ".onnx" else stem
  print(export_onnx(model, stem, licence=arguments.licence))
