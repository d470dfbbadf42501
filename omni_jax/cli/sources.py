"""What `omni prepare` and `omni units` share: a public corpus named on the command line, and how the work is run."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omni_jax.build.driver import Made, Preparation, Runner, Step, Steps, prepare, quarantine_path
from omni_jax.build.phones import Phones, write_phones
from omni_jax.build.processes import run_in_processes
from omni_jax.cli.configs import load_config, parse_settings
from omni_jax.core import config
from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.aishell import Aishell
from omni_jax.prepare.corpora.common_voice import CommonVoice
from omni_jax.prepare.corpora.emova import Emova
from omni_jax.prepare.corpora.entries import Corpus
from omni_jax.prepare.corpora.folder import SoundFolder
from omni_jax.prepare.corpora.hugging_face import HuggingFaceTable
from omni_jax.prepare.corpora.kaldi import Kaldi
from omni_jax.prepare.corpora.librispeech import LibriSpeech
from omni_jax.prepare.corpora.ljspeech import LJSpeech
from omni_jax.prepare.corpora.llava import Llava
from omni_jax.prepare.corpora.nemo import Nemo
from omni_jax.prepare.corpora.picture_folder import PictureFolder
from omni_jax.prepare.corpora.records import Records
from omni_jax.prepare.corpora.speech_instruct import SpeechInstruct
from omni_jax.prepare.corpora.tfds_names import TfdsName
from omni_jax.prepare.corpora.voice_assistant import VoiceAssistant
from omni_jax.prepare.corpora.webdataset import WebDataset
from omni_jax.prepare.phone_sets import PHONE_SETS

LOCAL = "local"
NO_PHONES = "none"

# How a path on the command line becomes a corpus; other fields are set by --set.
KINDS: dict[str, Callable[[Path], Corpus]] = {
  "folder": lambda path: SoundFolder(root=path),
  "kaldi": lambda path: Kaldi(root=path),
  "nemo": lambda path: Nemo(manifest=path),
  "ljspeech": lambda path: LJSpeech(root=path),
  "librispeech": lambda path: LibriSpeech(root=path),
  "aishell": lambda path: Aishell(root=path),
  "common_voice": lambda path: CommonVoice(root=path),
  "pictures": lambda path: PictureFolder(root=path),
  "webdataset": lambda path: WebDataset(path=path),
  "table": lambda path: HuggingFaceTable(path=path),
  "tfds": lambda path: TfdsName(path=path),
  "llava": lambda path: Llava(annotations=path),
  "emova": lambda path: Emova(root=path),
  "speech_instruct": lambda path: SpeechInstruct(file=path),
  "voice_assistant": lambda path: VoiceAssistant(path=path),
  "records": lambda path: Records(folder=path, split="train"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the flags of a source and of the driver."""
  parser.add_argument("--source", metavar="KIND:PATH", help=f"what to read; KIND is {', '.join(KINDS)}")
  parser.add_argument(
    "--set", action="append", default=[], metavar="FIELD=VALUE",
    help="a field of the source's reader, such as part=dev or limits.max_seconds=30; may be repeated",
  )  # fmt: skip
  parser.add_argument("--workdir", required=True, type=Path, help="the working folder, for example runs/full")
  parser.add_argument("--name", help="of the set that is made")
  parser.add_argument("--split", default="train", help="of the set (default: train)")
  parser.add_argument("--phones", choices=[NO_PHONES, *PHONE_SETS], default=NO_PHONES, help="of what is spoken")
  parser.add_argument(
    "--steps", metavar="FILE.py:FUNCTION",
    help="what is done to the records, such as configs/emova/builders.py:spoken_dialogue",
  )  # fmt: skip
  parser.add_argument("--limit", type=int, default=0, metavar="N", help="only the first N entries")
  parser.add_argument("--portion", type=int, default=2048, metavar="N", help="entries of one shard (default: 2048)")
  parser.add_argument("--workers", type=int, default=0, help="processes (default: prepare one for each CPU, units one)")
  parser.add_argument("--max-rejected", type=float, default=0.01, metavar="SHARE", help="put aside at most (0.01)")
  parser.add_argument(
    "--runner", default=LOCAL, metavar="NAME",
    help="local, or a runner of Apache Beam such as DirectRunner, DataflowRunner, FlinkRunner; its own flags go last",
  )  # fmt: skip
  parser.add_argument("--runner-flag", action="append", default=[], metavar="--FLAG=VALUE", help="of the Beam runner")


def preparation_of(
  arguments: argparse.Namespace, *, steps: tuple[Step, ...] = (), mark: str = "", chunk: int = 64
) -> Preparation:
  """Returns the preparation of one source that the flags describe; writes the list of phones that it goes by, if any.

  Args:
    arguments: of the command line.
    steps: what the verb does to records, after the steps and the phones that were asked for.
    mark: what these steps depend on besides.
    chunk: records that the steps are given at a time.

  Raises:
    UserError: no source, no name, a field that the reader lacks, or `--steps` is no config of steps.
  """
  if not arguments.source or not arguments.name:
    raise UserError(
      "no --source or no --name",
      where="command line",
      rule="a set has a source and a name",
      remedy="for example --source folder:recordings --name recordings",
    )
  corpus = corpus_of(arguments.source, arguments.set)
  asked = Steps(steps=())
  if arguments.steps:
    asked = load_config(arguments.steps, returns=Steps, arguments=(arguments.workdir.resolve(),))
  phones = ()
  if arguments.phones != NO_PHONES:
    write_phones(arguments.workdir / "corpus", arguments.phones)
    phones = (Phones(name=arguments.phones),)
  return Preparation(
    corpus=corpus,
    steps=(*asked.steps, *phones, *steps),
    portion=arguments.portion,
    chunk=chunk,
    max_rejected=arguments.max_rejected,
    limit=arguments.limit,
    mark=mark + asked.mark,
  )


def corpus_of(reference: str, settings: list[str]) -> Corpus:
  """Returns the corpus written `kind:path`, with fields set.

  Raises:
    UserError: no such kind or field.
  """
  kind, colon, path = reference.partition(":")
  if kind not in KINDS or not colon or not path:
    raise UserError(
      f"cannot read {reference!r}",
      where="--source",
      rule=f"a source is KIND:PATH, KIND one of {', '.join(KINDS)}",
      remedy="for example --source librispeech:/data/LibriSpeech/train-clean-100",
    )
  return config.replace(KINDS[kind](Path(path).resolve()), parse_settings(settings))


def run_with(arguments: argparse.Namespace, *, workers: int, start: Callable[[], Any] | None = None) -> Runner:
  """Returns the runner that was asked for; `workers` processes where none were, each of which calls `start`."""
  if arguments.runner == LOCAL:
    return run_in_processes(arguments.workers or workers, start=start)
  from omni_jax.build.beam import run_on_beam

  return run_on_beam(arguments.runner, flags=tuple(arguments.runner_flag))


def make(preparation: Preparation, arguments: argparse.Namespace, folder: Path, *, run: Runner) -> Made:
  """Makes the split and says what became of it."""
  made = prepare(preparation, folder, arguments.split, run=run)
  again = ", as it was made before" if made.was_there else ""
  print(f"{folder} {arguments.split}: {made.records} records{again}")
  if made.rejected:
    print(f"{made.rejected} put aside, with their reasons in {quarantine_path(folder, arguments.split)}")
  return made


def all_cpus() -> int:
  """Returns the number of processes that fill this machine."""
  return os.cpu_count() or 1
