"""`omni <verb>`: parse, call one library function, print. `omni --help` is the table of contents of the journey."""

import argparse
import importlib
import logging
import sys

from omni_jax.core.errors import UserError

# In the order of the journey. Each is a module of this package with EXAMPLE, add_arguments(parser), run(arguments).
VERBS = {
  "corpus": "make a labelled corpus of speech, images and text on the spot",
  "vocabulary": "train the text tokenizer and lay out the ids of text, units and styles",
  "plan": "what a step of a run needs on a TPU pod, compiled without one: memory, operations, traffic",
  "train": "train one stage: tokenizer, style, vocoder_filters, vocoder, pretrain, prealign, align, tune",
  "pod": "run omni train on rented machines: TPU virtual machines, GKE, Slurm",
  "centres": "train k-means on speech: labels for a HuBERT, or a speech tokenizer from its frames",
  "data": "look at data: what sets hold and share, what a record becomes, how fast batches come",
  "encode": "turn the speech of a corpus into units and heard styles",
  "chat": "talk to the assistant: text, image or speech in, text and speech out",
  "say": "speak a text in a style",
  "hear": "recognise the words and the style of a recording",
  "export": "write the vocoder as ONNX, accepted only if it sounds the same",
  "convert": "models in and out of the Hugging Face format: export, import, verify",
  "evaluate": "score the assistant offline on a CPU, beside its baselines",
  "report": "write one HTML page with curves, results and samples to look at and play",
}


def make_parser(chosen: str | None = None) -> argparse.ArgumentParser:
  """Returns the parser; only the chosen verb's module is imported, so that help stays instant."""
  parser = argparse.ArgumentParser(prog="omni", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  verbs = parser.add_subparsers(dest="verb", metavar="<verb>", required=True)
  for name, summary in VERBS.items():
    verb = verbs.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
    if name == chosen:
      module = importlib.import_module(f"omni_jax.cli.{name}")
      verb.description = module.__doc__
      verb.epilog = f"example:\n  {module.EXAMPLE}"
      module.add_arguments(verb)
      verb.set_defaults(run=module.run)
  return parser


def main(argv: list[str] | None = None) -> int:
  """Runs one verb; returns the exit status: 0 done, 2 wrong input (told in one message), 130 interrupted."""
  argv = sys.argv[1:] if argv is None else argv
  chosen = next((word for word in argv if not word.startswith("-")), None)
  arguments = make_parser(chosen).parse_args(argv)
  # Orbax warns through absl about formats that only its developers choose; what a user can mend is a UserError here.
  logging.getLogger("absl").setLevel(logging.ERROR)
  try:
    arguments.run(arguments)
  except UserError as error:
    print(f"omni {arguments.verb}: {error}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print(f"omni {arguments.verb}: interrupted; finished work is kept", file=sys.stderr)
    return 130
  return 0


if __name__ == "__main__":
  sys.exit(main())
