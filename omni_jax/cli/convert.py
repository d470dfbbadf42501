"""Write the language model of a trained stage as a Hugging Face folder that `transformers` loads with equal logits.

Text rows and extra rows (speech units, styles) become one token table; ids stay the same. The text tokenizer and the
vocabulary, which say what each id means, are copied beside the weights.
"""

import argparse
import shutil
from pathlib import Path

from omni_jax.checkpoint.store import load_model
from omni_jax.convert.language import export_language
from omni_jax.core.compilation_cache import enable_compilation_cache
from omni_jax.core.errors import UserError

EXAMPLE = "omni convert --workdir runs/tiny --stage tune --out runs/tiny/export/hf"
TOKEN_FILES = ("tokenizer.model", "vocabulary.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni convert`."""
  parser.add_argument("--workdir", required=True, type=Path, help="the working folder, for example runs/tiny")
  parser.add_argument("--stage", default="tune", help="whose newest checkpoint is written; now tune")
  parser.add_argument("--out", type=Path, help="the folder to write; by default WORKDIR/export/hf")
  parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of the tensors in the file")


def run(arguments: argparse.Namespace) -> None:
  """Converts."""
  enable_compilation_cache()
  folder = arguments.out or arguments.workdir / "export" / "hf"
  _, model = load_model(arguments.workdir / "stages" / arguments.stage)
  if not hasattr(model, "decoder"):
    raise UserError(
      f"stage {arguments.stage!r} holds a {type(model).__name__}",
      where=arguments.workdir / "stages" / arguments.stage,
      rule="only a stage of the omni model has a language model to write",
      remedy="choose pretrain, prealign, align or tune",
    )
  export_language(model.decoder, folder, dtype=arguments.dtype)
  for name in TOKEN_FILES:
    if (source := arguments.workdir / "text" / name).exists():
      shutil.copyfile(source, folder / name)
  print(folder)
