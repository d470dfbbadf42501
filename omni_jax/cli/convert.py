"""Models in and out of the Hugging Face format.

export  writes the newest checkpoint of a stage: `stock` is the language model alone, which transformers loads with
        equal logits; `origin` and `hf` are EMOVA's own formats of the whole model, `lit` is Mini-Omni's. Text rows and
        extra rows (speech units, styles) become one token table, ids stay the same; tokenizer and vocabulary are
        written beside, with the chat template of the stage's training. Adapters are merged into the weights, and
        written in PEFT's format into `adapters` besides. origin and hf bring their own torch files; say
        `trust_remote_code=True` to load them.
import  makes a stage of a folder in any of the first three, checked before anything is written. A stock language model
        gets rows for what the working folder's vocabulary adds to its tokenizer (`omni vocabulary --base`), and with
        --vision an image tower and a new projector. With --hearing and --config, a stock language model and a Whisper
        become the base of a Mini-Omni for that run; so do Mini-Omni's own files and a Whisper.
verify  compares a written folder with its stage, logit by logit, and puts the table into the folder's model card.

Parts of speech: `import --part` makes a stage of a released speech tokenizer, vocoder or encoder. A stage that holds
one is exported in its original's format and verified bit by bit; EMOVA's two halves as `hf`, both together by --with,
or as `origin`.
"""

import argparse
from pathlib import Path
from typing import Any

from omni_jax.checkpoint.card import stage_data
from omni_jax.checkpoint.new_rows import DRAWS
from omni_jax.checkpoint.store import load_model
from omni_jax.cli.configs import load_config
from omni_jax.convert.adapters import export_adapters
from omni_jax.convert.emova_card import PIXELS
from omni_jax.convert.emova_folder import export_folder
from omni_jax.convert.folders import read_json
from omni_jax.convert.language import dtype_named, export_language
from omni_jax.convert.mini_omni import write_mini_omni
from omni_jax.convert.mini_omni_base import import_mini_omni_base
from omni_jax.convert.speech_files import FORMATS as PARTS
from omni_jax.convert.speech_files import Part, SpeechSource
from omni_jax.convert.speech_stage import export_part, import_part, part_in, verify_part
from omni_jax.convert.stage import Source, import_stage
from omni_jax.convert.tokenizer_files import tokenizer_files, write_tokenizer
from omni_jax.convert.torch_code import auto_map
from omni_jax.convert.verify import add_parity, compare, table, write_card
from omni_jax.core import trees
from omni_jax.core.compilation_cache import enable_compilation_cache
from omni_jax.core.errors import UserError
from omni_jax.models.emova import EmovaConfig
from omni_jax.models.mini_omni import MiniOmni
from omni_jax.nn.lora import Adapted
from omni_jax.tokens.dialogue import TOKENIZER_FILE, VOCABULARY_FILE
from omni_jax.tokens.extension import load_tokenizer
from omni_jax.tokens.templates import TEMPLATES, Template
from omni_jax.tokens.vocabulary import Vocabulary
from omni_jax.train.loop import Run

EXAMPLE = """omni convert export --workdir runs/tiny --stage tune
  omni convert verify --workdir runs/tiny --stage tune
  omni convert export --workdir runs/tiny --stage tune --format origin --dtype bfloat16
  omni convert import --workdir runs/other --stage emova-3b --source emova-qwen-2-5-3b
  omni convert import --workdir runs/qwen --stage base --source Qwen2.5-0.5B --vision qwen2vit600m
  omni convert import --workdir runs/emova --stage voice --part unit-to-speech --source emova_speech_tokenizer_hf
  omni convert export --workdir runs/emova --stage hearing --with voice"""
FORMATS = ("stock", "origin", "hf", "lit")


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of `omni convert`."""
  actions = parser.add_subparsers(dest="action", metavar="<action>", required=True)
  for name, words in (("export", "stage -> folder"), ("import", "folder -> stage"), ("verify", "folder beside stage")):
    action = actions.add_parser(name, help=words)
    action.add_argument("--workdir", required=True, type=Path, help="the working folder, for example runs/tiny")
    action.add_argument("--stage", required=name == "import", default="tune", help="of the working folder; now tune")
    if name == "import":
      action.add_argument("--source", required=True, type=Path, metavar="DIR", help="config.json and safetensors")
      action.add_argument("--vision", type=Path, metavar="DIR", help="with a stock model: a Qwen2-VL image tower")
      action.add_argument("--new-rows", default="mean", choices=DRAWS, help="with a stock model: how they are drawn")
      action.add_argument("--hearing", type=Path, metavar="DIR", help="for a Mini-Omni: a Whisper of transformers")
      action.add_argument("--config", metavar="FILE:NAME", help="with --hearing: a run of configs/mini_omni")
      rows = "with EMOVA's formats: ids of its tokenizer before units; now the vocabulary's, or Qwen2.5's 151665"
      action.add_argument("--text-rows", type=int, metavar="N", help=rows)
      action.add_argument("--part", choices=sorted(PARTS), help="the source is this part of speech")
      action.add_argument("--styles", type=Path, metavar="FILE", help="of unit-to-speech as .pth: list of centroids")
      action.add_argument("--centres", type=Path, metavar="FILE", help="of kmeans: .npy")
      action.add_argument("--layer", type=int, metavar="N", help="of kmeans: whose frames they are; now 11")
      continue
    action.add_argument("--out", type=Path, metavar="DIR", help="the folder; by default WORKDIR/export/FORMAT")
    formats = FORMATS if name == "export" else FORMATS[:-1]
    action.add_argument("--format", default="stock", choices=formats, help="now stock")
    if name == "export":
      action.add_argument("--template", choices=TEMPLATES, help="chat template; now that of the stage's training")
      action.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of the tensors written")
      action.add_argument("--with", dest="other", metavar="STAGE", help="EMOVA's other half of a speech tokenizer")


def run(arguments: argparse.Namespace) -> None:
  """Converts."""
  enable_compilation_cache()
  {"export": _export, "import": _import, "verify": _verify}[arguments.action](arguments)


def _export(arguments: argparse.Namespace) -> None:
  config, model = load_model(arguments.workdir / "stages" / arguments.stage)
  part = part_in(arguments.workdir / "stages" / arguments.stage, config, model)
  if part is not None:
    _export_speech(arguments, part)
    return
  folder = arguments.out or arguments.workdir / "export" / arguments.format
  if arguments.format == "lit":
    _export_mini_omni(arguments, folder, model)
    return
  _check_language(arguments, model)
  data, text = stage_data(arguments.workdir / "stages" / arguments.stage), arguments.workdir / "text"
  template = TEMPLATES[arguments.template] if arguments.template else getattr(data, "template", None)
  files = _tokenizer_files(text, template=template)
  _check_format(arguments, model)
  if isinstance(model, Adapted):
    export_adapters(model, folder / "adapters")
    model = model.merged()
  if arguments.format == "stock":
    export_language(model.decoder, folder, dtype=arguments.dtype)
  else:
    dtype = dtype_named(arguments.dtype)
    leaves = {path: leaf.astype(dtype) for path, leaf in trees.flatten(model).items()}
    images = getattr(data, "images", None)
    pixels = PIXELS if images is None else (images.min_pixels, images.max_pixels)
    export_folder(model.config, leaves, folder, scheme=arguments.format, pixels=pixels)
  write_tokenizer(folder, files, own=text)
  written = model.decoder if arguments.format == "stock" else model
  facts = {
    "format": arguments.format,
    "stage": arguments.stage,
    "parameters": f"{sum(leaf.size for leaf in trees.flatten(written).values()):,}",
    "dtype": arguments.dtype,
  }
  if auto_map(read_json(folder / "config.json")):
    facts["read by"] = "`transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)`"
  write_card(folder, title=f"{folder.name} (omni_jax)", facts=facts)
  print(folder)


def _export_speech(arguments: argparse.Namespace, part: Part) -> None:
  folder, other = arguments.out or arguments.workdir / "export" / arguments.stage, None
  if arguments.other:
    stage = arguments.workdir / "stages" / arguments.other
    other = part_in(stage, *load_model(stage))
    if other is None:
      raise UserError(
        f"stage {arguments.other!r} is no part of speech",
        where="--with",
        rule="the other half of EMOVA's speech tokenizer",
        remedy="name the stage that it was imported as",
      )
  export_part(part, folder, scheme=arguments.format, other=other)
  print(folder)


def _check_format(arguments: argparse.Namespace, model: Any) -> None:
  if arguments.format == "stock" or isinstance(model.config, EmovaConfig):
    return
  raise UserError(
    f"stage {arguments.stage!r} is a language model alone",
    where=f"--format {arguments.format}",
    rule="EMOVA's formats hold an image tower and a projector too",
    remedy="write --format stock",
  )


def _tokenizer_files(text: Path, *, template: Template | None) -> dict[str, str]:
  """Returns what transformers makes a tokenizer of, nothing if the working folder has none."""
  has_tokenizer = any((text / name).exists() for name in ("tokenizer.json", TOKENIZER_FILE))
  if not has_tokenizer or not (text / VOCABULARY_FILE).exists():
    return {}
  vocabulary = Vocabulary.load(text / VOCABULARY_FILE)
  return tokenizer_files(load_tokenizer(text), vocabulary=vocabulary, template=template)


def _import(arguments: argparse.Namespace) -> None:
  if arguments.part:
    folder, report = _import_speech(arguments)
  elif arguments.hearing is not None or arguments.config is not None:
    folder, report = _import_mini_omni(arguments)
  else:
    source = Source(
      folder=arguments.source, vision=arguments.vision, draw=arguments.new_rows, text_rows=arguments.text_rows
    )
    folder, report = import_stage(source, arguments.workdir, name=arguments.stage)
  print("\n".join([*report, str(folder)]))


def _import_speech(arguments: argparse.Namespace) -> tuple[Path, tuple[str, ...]]:
  belongs = {"styles": "unit-to-speech", "centres": "kmeans", "layer": "kmeans"}
  for flag, part in belongs.items():
    if getattr(arguments, flag) is not None and arguments.part != part:
      raise UserError(
        f"--{flag} with --part {arguments.part}", where="flags", rule=f"it is of {part}", remedy="leave it out"
      )
  chosen = {} if arguments.layer is None else {"layer": arguments.layer}
  source = SpeechSource(path=arguments.source, styles=arguments.styles, centres=arguments.centres, **chosen)
  return import_part(arguments.part, source, arguments.workdir, stage=arguments.stage)


def _import_mini_omni(arguments: argparse.Namespace) -> tuple[Path, tuple[str, ...]]:
  if arguments.hearing is None or arguments.config is None:
    raise UserError(
      "one of --hearing and --config",
      where="omni convert import",
      rule="the base of a Mini-Omni is made of a Whisper and for a run",
      remedy="give both, for example --config configs/mini_omni/omni.py:full",
    )
  model = load_config(arguments.config, returns=Run, arguments=(arguments.workdir,)).model
  return import_mini_omni_base(
    model,
    arguments.workdir,
    name=arguments.stage,
    language=arguments.source,
    hearing=arguments.hearing,
    draw=arguments.new_rows,
  )


def _export_mini_omni(arguments: argparse.Namespace, folder: Path, model: Any) -> None:
  if not isinstance(model, MiniOmni):
    raise UserError(
      f"stage {arguments.stage!r} holds a {type(model).__name__}",
      where=arguments.workdir / "stages" / arguments.stage,
      rule="--format lit writes a Mini-Omni",
      remedy="choose a stage of configs/mini_omni, or another format",
    )
  write_mini_omni(model, folder)
  print(folder)


def _verify(arguments: argparse.Namespace) -> None:
  stage = arguments.workdir / "stages" / arguments.stage
  config, model = load_model(stage)
  part = part_in(stage, config, model)
  if part is not None:
    folder = arguments.out or arguments.workdir / "export" / arguments.stage
    print("\n".join(verify_part(part, folder, scheme=arguments.format)))
    return
  folder = arguments.out or arguments.workdir / "export" / arguments.format
  _check_language(arguments, model)
  _check_format(arguments, model)
  model = model.merged() if isinstance(model, Adapted) else model
  rows = compare(model.decoder if arguments.format == "stock" else model, folder)
  add_parity(folder, rows)
  print(table(rows))
  print(f"written into {folder / 'README.md'}")


def _check_language(arguments: argparse.Namespace, model: Any) -> None:
  base = model.merged() if isinstance(model, Adapted) else model
  if not hasattr(base, "decoder"):
    raise UserError(
      f"stage {arguments.stage!r} holds a {type(base).__name__}",
      where=arguments.workdir / "stages" / arguments.stage,
      rule="a stage of the omni model or of a part of speech is written",
      remedy="choose pretrain, prealign, align or tune, or a speech tokenizer or vocoder",
    )
