"""Centres of k-means from the speech of a corpus, written as a stage: labels for a HuBERT, or a speech tokenizer.

Batch i of frames is a function of the seed and i alone, so that a run that was stopped goes on with the same bits.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.batches.utterances import Utterances
from omni_jax.checkpoint.card import make_card, model_config, read_card, write_card
from omni_jax.checkpoint.store import Store, latest_step, load_model
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.speech.grouping import map_waveforms
from omni_jax.speech.kmeans import KMeansConfig, distortion, fit
from omni_jax.speech.kmeans_tokenizer import KMeansTokenizerConfig
from omni_jax.speech.mfcc import MfccLabellerConfig

_STUDENT = "student."
_HELD_OUT = 2**31 - 1  # the number of a batch that no run comes to


@dataclasses.dataclass(frozen=True, kw_only=True)
class CentresConfig:
  """Which frames of which speech, and how their centres are found.

  Attributes:
    name: of the stage that is written.
    sets: of the corpus; every turn with sound is read.
    split: of each set.
    model: whose frames they are, and whose centres.
    hubert: the stage (`speech.hubert_pretraining`) that the HuBERT of a tokenizer is taken from; None for cepstra.
    utterances: that a batch of frames is drawn from.
    frames: in a batch.
    kmeans: how centres are found.
  """

  name: str
  sets: tuple[str, ...]
  split: str
  model: MfccLabellerConfig | KMeansTokenizerConfig
  hubert: str | None
  utterances: int
  frames: int
  kmeans: KMeansConfig

  def __post_init__(self):
    tokenizer = isinstance(self.model, KMeansTokenizerConfig)
    if self.kmeans.num_classes != self.model.num_classes or tokenizer != (self.hubert is not None):
      raise UserError(
        f"{self.kmeans.num_classes} centres for {self.model.num_classes} classes, hubert {self.hubert!r}",
        where=f"config of the centres {self.name!r}",
        rule="one centre for each class, and a stage of a HuBERT for a tokenizer only",
        remedy="change the one that does not fit",
      )


def train_centres(config: CentresConfig, workdir: Path) -> Path:
  """Writes `workdir/stages/<name>` with the model and its centres, and returns it; finished work is left as it is.

  Raises:
    UserError: the speech or the HuBERT is missing, frames are too few or not finite, the folder holds another run, or
      the disk refuses. What was learned stays.
  """
  stage = workdir / "stages" / config.name
  starts = () if config.hubert is None else (read_card(workdir / "stages" / config.hubert)["fingerprint"],)
  card = make_card(config, workdir=workdir, ignored=(), starts=starts)
  if (stage / "run.json").exists() and read_card(stage)["fingerprint"] != card["fingerprint"]:
    raise UserError(
      "the stage folder holds another run",
      where=stage,
      rule="a stage folder belongs to one run",
      remedy="undo the change, or delete the folder",
    )
  if latest_step(stage) is not None:
    print(f"{config.name}: already trained")
    return stage
  model = _model(config, workdir)
  batches = Batches(config, workdir, model)
  stage.mkdir(parents=True, exist_ok=True)
  write_card(stage, card)
  state = fit(batches, config.kmeans, path=stage / "kmeans.npz")
  told = float(distortion(jnp.asarray(batches(_HELD_OUT)), state.centres))
  print(f"{config.name}: {state.step} batches, mean squared distance {told:.4g}")
  params = {**trees.flatten(model), "centres": state.centres}
  store = Store(stage, keep=1)
  store.save(state.step, params=params, moments=None, position={"step": state.step})
  store.close()
  return stage


class Batches:
  """Step -> frames [config.frames, D], drawn from as many utterances as the config says."""

  def __init__(self, config: CentresConfig, workdir: Path, model: Any):
    self._config, self._model = config, model
    self._utterances = Utterances([workdir / "corpus" / name for name in config.sets], config.split)

  def __call__(self, step: int) -> np.ndarray:
    """Returns the frames of one batch.

    Raises:
      UserError: the utterances drawn are all too short for a frame.
    """
    generator = np.random.default_rng((self._config.kmeans.seed, step))
    number = min(self._config.utterances, len(self._utterances))
    chosen = generator.choice(len(self._utterances), number, replace=False)
    waveforms = [self._utterances[int(place)] for place in chosen]
    run = functools.partial(_jit_frames(), self._model)
    rows = map_waveforms(run, waveforms, sample_rate=self._model.sample_rate)
    frames = np.concatenate([found[:count] for found, count in rows])
    if not len(frames):
      raise UserError(
        f"no frame in {number} utterances",
        where=f"sets {', '.join(self._config.sets)}",
        rule="utterances are longer than a window of the model",
        remedy="raise `utterances`, or leave the shortest recordings out",
      )
    return frames[generator.choice(len(frames), self._config.frames, replace=len(frames) < self._config.frames)]


def _model(config: CentresConfig, workdir: Path) -> Any:
  """Returns the model with random centres; its HuBERT, if it has one, is the student of the stage."""
  if not isinstance(config.model, KMeansTokenizerConfig) or config.hubert is None:
    return config.model.make(key=jax.random.key(0))
  stage = workdir / "stages" / config.hubert
  own = getattr(model_config(stage), "hubert", None)
  if own != config.model.hubert:
    raise UserError(
      f"its HuBERT is {own}",
      where=stage,
      rule=f"the tokenizer reads with the HuBERT of the stage; its config says {config.model.hubert}",
      remedy="take the same config for both, or another stage",
    )
  trained = trees.flatten(load_model(stage)[1])
  fresh = config.model.make(key=jax.random.key(0))
  # Under the names of the tokenizer; its centres are still to be found.
  student = {path.replace(_STUDENT, "hubert.", 1): leaf for path, leaf in trained.items() if path.startswith(_STUDENT)}
  return trees.unflatten(fresh, {**trees.flatten(fresh), **student})


def _frames(model: Any, waveform: Any, samples: Any) -> tuple[Any, Any]:
  return model.frames(waveform, samples), model.num_frames(samples)


@functools.cache
def _jit_frames():
  return jax.jit(_frames)
