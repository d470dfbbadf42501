"""How good a vocoder trained against critics is: distances, unit error, lengths, word error rate, latency.

Needs the corpus and its units (`omni corpus`, `omni encode`), the trained stage of the config and, for the word error
rate, pocketsphinx. Prints one JSON object, and with --sounds writes what was said beside the recordings.

    python tools/measure_vocoder.py --config configs/speechgpt/unit_vocoder.py:tiny --workdir runs/tiny
"""

import argparse
import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from omni_jax.checkpoint.store import load_model
from omni_jax.cli.configs import load_config
from omni_jax.core.errors import UserError
from omni_jax.evaluate import voices
from omni_jax.nn.weight_norm import fold_model
from omni_jax.prepare.audio import resample, save_wav
from omni_jax.speech.conditions import Centroids, condition_of
from omni_jax.speech.unit_to_speech import UnitToSpeech
from omni_jax.speech.unit_voice import UnitVoice
from omni_jax.train.adversarial import Adversarial
from omni_jax.train.loop import Run


def main() -> None:
  """Prints the figures."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--config", required=True, metavar="FILE.py:FUNCTION", help="what was trained")
  parser.add_argument("--workdir", required=True, type=Path)
  parser.add_argument("--split", default="test")
  parser.add_argument("--batches", type=int, default=16, help="for the distances")
  parser.add_argument("--utterances", type=int, default=85)
  parser.add_argument("--workers", type=int, default=1, help="of the recogniser; 0 leaves word errors out")
  parser.add_argument("--sounds", type=Path, help="folder for what was said")
  arguments = parser.parse_args()
  print(json.dumps(measure(arguments), indent=1))


def measure(arguments: argparse.Namespace) -> dict:
  """Returns the figures, each with its interval and number."""
  run = load_config(arguments.config, returns=Run, arguments=(arguments.workdir,))
  if not isinstance(run.loss, Adversarial):
    raise UserError(
      f"{run.name} has no critics",
      where=arguments.config,
      rule="this measures what was trained against critics",
      remedy="for the other vocoder use `omni evaluate`",
    )
  _, model = load_model(arguments.workdir / "stages" / run.name)
  data = dataclasses.replace(run.data, split=arguments.split)
  batches = list(itertools.islice(iter(data.open()), arguments.batches))
  fresh = jax.jit(lambda: run.model.make(key=jax.random.key(run.seed)))()
  figures = {
    f"{name} {when}": score.to_json()
    for when, one in (("before", fresh), ("after", model))
    for name, score in voices.distances(run.loss, one, batches).items()
  }
  if not hasattr(data, "units"):
    return figures
  utterances = voices.held_out(data, split=arguments.split, limit=arguments.utterances)
  voice = speaker(model, run, arguments.workdir)
  return figures | spoken_figures(voice, utterances, arguments)


def speaker(model, run: Run, workdir: Path):
  """Returns what speaks units in a style: the model itself, or for VITS with the centroids of its training corpus."""
  if not isinstance(model, UnitToSpeech):
    return model
  folded: Any = fold_model(model, into=jax.eval_shape(lambda: model.config.inference.make(key=jax.random.key(0))))
  voice = UnitVoice(folded)
  known = voices.held_out(run.data, split=run.data.split, limit=400)
  heard = [voice.hear(resample(one.recording, sample_rate=16000, to=voice.sample_rate)) for one in known]
  centroids = Centroids.of_corpus(np.stack(heard), [condition_of(one.style) for one in known])
  return UnitVoice(voice.model, centroids=centroids)


def spoken_figures(voice, utterances, arguments: argparse.Namespace) -> dict:
  """Returns the figures of whole utterances, each spoken from its units and style."""
  spoken = [voice.decode(one.units, one.style) for one in utterances]
  heard = [resample(waveform, sample_rate=voice.sample_rate) for waveform in spoken]
  _, tokenizer = load_model(arguments.workdir / "stages" / "tokenizer")
  figures = {
    "unit error": voices.unit_errors(utterances, heard, tokenizer).score.to_json(),
    "length over recording": voices.lengths(utterances, spoken, sample_rate=voice.sample_rate).to_json(),
    "latency": voices.latency(utterances[:8], voice.stream, sample_rate=voice.sample_rate)._asdict(),
  }
  for row, waveform in enumerate(spoken[:8] if arguments.sounds else ()):
    save_wav(arguments.sounds / f"{row}-said.wav", waveform, voice.sample_rate)
    save_wav(arguments.sounds / f"{row}-recorded.wav", utterances[row].recording)
  if arguments.workers:
    original, own, above = voices.word_errors(utterances, heard, workers=arguments.workers)
    figures |= {"WER recordings": original.score.to_json(), "WER spoken": own.score.to_json()}
    figures["WER above recordings"] = above.to_json()
  return figures


if __name__ == "__main__":
  main()
