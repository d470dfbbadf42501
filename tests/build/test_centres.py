import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from configs.speechgpt import centres as centres_file
from configs.speechgpt import hubert as hubert_file
from omni_jax.batches.utterances import Bucket
from omni_jax.build.centres import Batches, CentresConfig, train_centres
from omni_jax.checkpoint.store import load_model
from omni_jax.cli.main import main
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.prepare.audio import decode_audio, encode_flac, save_wav
from omni_jax.prepare.reader import open_set
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.writer import write_split
from omni_jax.speech.hubert import StemLayer
from omni_jax.speech.kmeans import KMeansConfig
from omni_jax.speech.kmeans_tokenizer import KMeansTokenizerConfig
from omni_jax.train.loop import train

HUBERT = dataclasses.replace(
  hubert_file.HUBERT,
  stem=(StemLayer(width=8, taps=16, stride=16), StemLayer(width=16, taps=25, stride=20)),
  encoder=dataclasses.replace(hubert_file.HUBERT.encoder, width=16, depth=1, num_heads=2, mlp_dim=24),
  position_taps=8,
  position_groups=2,
)
CEPSTRA = dataclasses.replace(hubert_file.CEPSTRA, num_classes=4, num_coefficients=5)
KMEANS = KMeansConfig(num_classes=4, steps=6, seed_frames=40)
FIRST = dataclasses.replace(centres_file.cepstra_tiny(), model=CEPSTRA, utterances=4, frames=80, kmeans=KMEANS)
UNITS = KMeansTokenizerConfig(hubert=HUBERT, layer=1, num_classes=4, longest_seconds=2.0)
SECOND = dataclasses.replace(FIRST, name="kmeans_tokenizer", model=UNITS, hubert="hubert")


def sound(seed):
  """Returns two tones, so that there are classes to find."""
  generator = np.random.default_rng(seed)
  time = np.arange(9600) / 16000
  tones = [np.sin(2 * np.pi * hz * time) * (time * 4 % 2 >= place) for place, hz in enumerate((200 + 40 * seed, 1500))]
  return encode_flac(0.3 * sum(tones) + 0.003 * generator.normal(size=time.size))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("work")
  for name in ("speech", "dialogue"):
    turns = [Turn("user", "number", audio=sound(seed), phones="a b") for seed in range(4)]
    examples = [Example(id=f"s{seed}", task="speech", turns=(turn,)) for seed, turn in enumerate(turns)]
    write_split(workdir / "corpus" / name, "train", examples)
  (workdir / "corpus" / "phones.json").write_text(json.dumps(["a", "b"]))
  return workdir


def losses(stage):
  return [json.loads(line)["loss"] for line in (stage / "metrics.jsonl").read_text().splitlines()]


def test_from_cepstra_to_units(workdir, capsys):
  """Centres of cepstra, a HuBERT that learns to tell them, centres of its layer: the tokenizer."""
  stage = train_centres(FIRST, workdir)
  labeller = load_model(stage)[1]
  assert labeller.config == CEPSTRA
  run = hubert_file.smoke(workdir)
  model = dataclasses.replace(run.model, hubert=HUBERT, labeller=CEPSTRA)
  data = dataclasses.replace(run.data, buckets=(Bucket(seconds=1.0, rows=4),))
  run = dataclasses.replace(run, model=model, data=data, steps=24, log_every=4)
  curve = losses(train(run, workdir))
  assert curve[-1] < 0.9 * curve[0]
  trained = load_model(workdir / "stages" / "hubert")[1]
  np.testing.assert_array_equal(trained.labeller.centres[...], labeller.centres[...])  # frozen
  tokenizer = load_model(train_centres(SECOND, workdir))[1]
  for path, leaf in trees.flatten(tokenizer.hubert).items():
    np.testing.assert_array_equal(leaf, trees.flatten(trained.student)[path])
  units = tokenizer.encode(0.1 * np.random.default_rng(0).normal(size=8000))
  assert units.shape == (25,) and units.min() >= 0 and units.max() < 4
  _encodes_like_any_tokenizer(workdir, tokenizer)
  capsys.readouterr()
  train_centres(FIRST, workdir)
  assert "already trained" in capsys.readouterr().out


def _encodes_like_any_tokenizer(workdir, tokenizer):
  """`omni encode` and `omni units` take the stage, without a style encoder too."""
  stages = ["--tokenizer", "kmeans_tokenizer", "--style", "none", "--workdir", str(workdir)]
  assert main(["encode", "--sets", "speech", *stages]) == 0
  recordings = [decode_audio(sound(seed)) for seed in range(4)]
  for number, recording in enumerate(recordings):
    save_wav(workdir / "wavs" / f"{number}.wav", recording)
  assert main(["units", "--source", f"folder:{workdir / 'wavs'}", "--name", "mine", *stages]) == 0
  for name in ("speech", "mine"):
    for record, recording in zip(open_set(workdir / "units" / name, "train"), recordings, strict=True):
      (turn,) = record.turns
      assert len(turn.units) == 30 and not turn.heard
      if name == "speech":  # a wav file rounds samples again
        np.testing.assert_array_equal(turn.units, tokenizer.encode(recording))


def test_centres_go_on_after_a_stop(workdir, monkeypatch):
  whole = load_model(train_centres(dataclasses.replace(FIRST, name="whole"), workdir))[1]
  again = dataclasses.replace(FIRST, name="again")
  original = Batches.__call__

  def stops(self, step):
    if step == 4:
      raise KeyboardInterrupt
    return original(self, step)

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(Batches, "__call__", stops)
    train_centres(again, workdir)
  resumed = load_model(train_centres(again, workdir))[1]
  np.testing.assert_array_equal(resumed.centres[...], whole.centres[...])


def test_another_run_in_the_folder_is_told(workdir):
  name = dataclasses.replace(FIRST, name="taken")
  train_centres(name, workdir)
  with pytest.raises(UserError, match="another run"):
    train_centres(dataclasses.replace(name, frames=60), workdir)


def test_what_is_missing_is_told(workdir, tmp_path):
  with pytest.raises(UserError):
    train_centres(FIRST, tmp_path)
  with pytest.raises(UserError, match="no such stage"):
    train_centres(dataclasses.replace(SECOND, name="other", hubert="absent"), workdir)


def test_configs_that_do_not_fit_are_told():
  with pytest.raises(UserError, match="one centre for each class"):
    dataclasses.replace(FIRST, kmeans=dataclasses.replace(KMEANS, num_classes=3))
  with pytest.raises(UserError, match="a stage of a HuBERT"):
    dataclasses.replace(FIRST, hubert="hubert")


def test_the_configs_belong_together():
  for made in (centres_file.cepstra_smoke(), centres_file.units_smoke(), centres_file.units_tiny()):
    assert isinstance(made, CentresConfig)
  second, units = hubert_file.second_tiny(Path("w")), centres_file.units_tiny()
  assert second.model.labeller == units.model and second.start[0].checkpoint.name == units.name
  assert hubert_file.tiny(Path("w")).start[0].checkpoint.name == centres_file.cepstra_tiny().name
