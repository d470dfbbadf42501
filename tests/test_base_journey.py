"""From a released base to a trained model and back, by commands: tiny random files in Hugging Face's formats."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.checkpoint.store import load_model
from omni_jax.cli.main import main
from omni_jax.core import trees
from omni_jax.generate.assistant import load_language
from omni_jax.generate.constraints import make_automaton
from omni_jax.generate.engine import Engine, Prompt
from omni_jax.generate.sampling import Sampling
from omni_jax.prepare.writer import write_split
from omni_jax.tokens.dialogue import Question
from tests.batches.conftest import examples
from tests.released import write_base, write_tower

SETS = {
  "corpus/images": "caption",
  "corpus/text": "text",
  "units/speech": "speech",
  "units/dialogue": "dialogue",
  "units/spoken_images": "spoken_visual_question",
}


def omni(*words):
  status = main([str(word) for word in words])
  assert status == 0, f"omni {' '.join(map(str, words))} returned {status}"


def train(config, work, *words):
  omni("train", "--config", f"configs/emova/{config}", "--workdir", work, *words)


def losses(work, stage):
  lines = (work / "stages" / stage / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line)["loss"] for line in lines]


def started(work, stage) -> dict:
  return json.loads((work / "stages" / stage / "start.json").read_text())


def write_sets(work):
  draw = np.random.default_rng(0)
  for name, kind in SETS.items():
    write_split(work / name, "train", examples(kind, draw))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
  """A base with a tower, trained through the three stages."""
  work = tmp_path_factory.mktemp("released")
  write_sets(work)
  write_base(work / "hub", dtype="bfloat16")
  write_tower(work / "tower")
  omni("vocabulary", "--base", work / "hub", "--workdir", work, "--codebook-size", 64)
  words = ("--stage", "base", "--source", work / "hub", "--vision", work / "tower")
  omni("convert", "import", "--workdir", work, *words)
  for stage in ("prealign", "align", "tune"):
    train(f"full.py:tiny_{stage}", work, "--set", "log_every=1")
  return work


def test_each_stage_reports_what_it_took_over(work):
  report = started(work, "prealign")
  assert report["new"] == sorted(report["new"]) and all(path.startswith("projector") for path in report["new"])
  assert {path.partition(".")[0] for path in report["loaded"]} == {"decoder", "vision"}
  for stage in ("align", "tune"):
    assert not started(work, stage)["new"]
    assert np.isfinite(losses(work, stage)).all() and len(losses(work, stage)) == 4


def test_only_what_a_stage_trains_has_changed(work):
  models = [trees.flatten(load_model(work / "stages" / name)[1]) for name in ("base", "prealign", "align")]
  changed = [
    {path for path in before if not np.array_equal(before[path].astype(after[path].dtype), after[path])}
    for before, after in itertools.pairwise(models)
  ]
  assert changed[0] and all(path.startswith("projector") for path in changed[0])
  depth = 2
  for path, leaf in models[1].items():
    if path.startswith("vision.blocks"):
      np.testing.assert_array_equal(leaf[: depth // 2], models[2][path][: depth // 2])
  assert not [path for path in changed[1] if path.startswith("vision.patch")]
  assert {"decoder.embed.extra", "vision.blocks.attention.query.weight"} <= changed[1]


def test_the_trained_model_answers(work):
  model, dialogue, _ = load_language(work, stage="tune")
  engine = Engine(model, make_automaton(dialogue.vocabulary), sampling=Sampling(), max_tokens=128)
  prompt = np.asarray(dialogue.prompt(Question(text="the dog")), np.int32)
  (ids,) = engine.generate([Prompt(tokens=prompt, state="write")], max_new_tokens=4)
  assert len(ids) and dialogue.vocabulary.pieces()[ids].all()


def test_transformers_reads_what_was_trained(work, tmp_path):
  torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
  omni("convert", "export", "--workdir", work, "--stage", "tune", "--out", tmp_path)
  model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
  tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
  ids = jnp.asarray([tokenizer("<|im_start|>user\nthe red dog<|speech_7|><|speech_63|><|im_end|>").input_ids])
  assert tokenizer.eos_token == "<|im_end|>"
  _, ours = load_model(work / "stages" / "tune")
  batch = {"tokens": ids, "positions": jnp.arange(ids.shape[1])[None], "segment_ids": jnp.ones_like(ids)}
  with torch.no_grad():
    theirs = model(torch.tensor(np.asarray(ids))).logits.numpy()
  assert np.abs(np.asarray(jax.jit(ours)(batch)) - theirs).max() <= 1e-4 * np.abs(theirs).max()
