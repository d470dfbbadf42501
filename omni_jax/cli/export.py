"""Write a vocoder for other runtimes, once its output there equals that of JAX; nothing is left behind otherwise.

onnx       for onnxruntime on any CPU or GPU; `runtime/speak.py` speaks with it and needs numpy and onnxruntime only.
           STEM.sound.onnx makes samples of frames; where units last for several, STEM.units.onnx before it tells how
           many. Metadata says sample rate, hop, units, styles, context and parity.
piper      one ONNX graph with Piper's inputs, so that runtimes of Piper's voices speak units: STEM.piper.onnx and its
           config STEM.piper.onnx.json. Nothing can be streamed.
stablehlo  one file for JAX on CPUs, CUDA GPUs and TPUs, STEM.stablehlo.
torch      a folder STEM with config and plain state dict for the original code: EMOVA's, fairseq's or the snac package;
           kept once it was read again with the same bits. `omni convert` has the other formats of speech parts.

By default STEM is WORKDIR/export/STAGE.
"""

import argparse
from pathlib import Path
from typing import Any

from omni_jax.checkpoint.store import load_model
from omni_jax.convert.speech_files import EMOVA_PARTS, part_of
from omni_jax.convert.speech_stage import part_in, publish_part
from omni_jax.core.compilation_cache import enable_compilation_cache
from omni_jax.core.errors import UserError
from omni_jax.export.vocoder import NOT_STATED, export_onnx, export_piper, export_stablehlo
from omni_jax.speech.unit_to_speech import UnitToSpeech
from omni_jax.speech.unit_voice import UnitVoice

EXAMPLE = """omni export vocoder --workdir runs/tiny
  omni export vocoder --workdir runs/emova --stage voice --format stablehlo --licence Apache-2.0"""
FORMATS = {"onnx": export_onnx, "piper": export_piper, "stablehlo": export_stablehlo}


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni export`."""
  parser.add_argument("what", choices=("vocoder",), help="the part to export")
  parser.add_argument("--workdir", required=True, type=Path, help="the working folder, for example runs/tiny")
  parser.add_argument("--stage", default="vocoder", help="the stage that trained it; now vocoder")
  parser.add_argument("--format", default="onnx", choices=(*FORMATS, "torch"), help="now onnx")
  parser.add_argument("--out", type=Path, metavar="STEM", help="path of what is written, without endings")
  parser.add_argument("--licence", default=NOT_STATED, help="of the weights, kept in the file; not by torch")


def run(arguments: argparse.Namespace) -> None:
  """Exports."""
  enable_compilation_cache()
  stage = arguments.workdir / "stages" / arguments.stage
  _, vocoder = load_model(stage)
  stem = arguments.out or arguments.workdir / "export" / arguments.stage
  stem = stem.with_suffix("") if stem.suffix == ".onnx" else stem
  if arguments.format == "torch":
    print("\n".join([str(stem), *_export_torch(stage, vocoder, stem)]))
  else:
    print(FORMATS[arguments.format](vocoder, stem, licence=arguments.licence))


def _export_torch(stage: Path, vocoder: Any, folder: Path) -> tuple[str, ...]:
  vocoder = UnitVoice(vocoder) if isinstance(vocoder, UnitToSpeech) else vocoder
  part = part_in(stage, vocoder.config, vocoder)
  if part is None:
    raise UserError(
      f"a {type(vocoder).__name__}",
      where=f"--format torch of stage {stage.name!r}",
      rule="unit-to-speech, unit HiFi-GAN and SNAC have an original; this vocoder is ours",
      remedy="write it with --format onnx",
    )
  return publish_part(part, folder, scheme="origin" if part_of(part.config) in EMOVA_PARTS else "stock")
