"""Write a vocoder for other runtimes, once its output there equals that of JAX; nothing is left behind otherwise.

onnx       for onnxruntime on any CPU or GPU; `runtime/speak.py` speaks with it and needs numpy and onnxruntime only.
           STEM.onnx, or two files where a runtime repeats units for as many frames as they last in between,
           STEM.units.onnx and STEM.sound.onnx. Metadata says sample rate, hop, units, styles, context and parity.
piper      one ONNX graph with Piper's inputs, so that runtimes of Piper's voices speak units: STEM.piper.onnx and its
           config STEM.piper.onnx.json. Nothing can be streamed.
stablehlo  one file for JAX on CPUs, CUDA GPUs and TPUs, STEM.stablehlo.

By default STEM is WORKDIR/export/STAGE.
"""

import argparse
from pathlib import Path

from omni_jax.checkpoint.store import load_model
from omni_jax.core.compilation_cache import enable_compilation_cache
from omni_jax.export.vocoder import NOT_STATED, export_onnx, export_piper, export_stablehlo

EXAMPLE = """omni export vocoder --workdir runs/tiny
  omni export vocoder --workdir runs/emova --stage voice --format stablehlo --licence Apache-2.0"""
FORMATS = {"onnx": export_onnx, "piper": export_piper, "stablehlo": export_stablehlo}


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
  _, vocoder = load_model(arguments.workdir / "stages" / arguments.stage)
  stem = arguments.out or arguments.workdir / "export" / arguments.stage
  stem = stem.with_suffix("") if stem.suffix == ".onnx" else stem
  print(FORMATS[arguments.format](vocoder, stem, licence=arguments.licence))
