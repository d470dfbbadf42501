import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.checkpoint.store import load_model
from omni_jax.cli.main import main
from omni_jax.convert.base import import_base, import_tower
from omni_jax.convert.language import import_language
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.models.emova import EmovaConfig
from omni_jax.tokens.vocabulary import Vocabulary
from tests.models.twins import vision_config
from tests.released import UNUSED, write_base, write_tower


def omni(*words) -> int:
  return main([*map(str, words)])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
  """A base, an untied one in bfloat16, a tower, and a working folder with the vocabulary of the base."""
  world = tmp_path_factory.mktemp("world")
  write_base(world / "base")
  write_base(world / "untied", dtype="bfloat16", tied=False, qkv_bias=False)
  write_tower(world / "tower")
  omni("vocabulary", "--base", world / "base", "--workdir", world / "work", "--codebook-size", 64)
  return world


def vocabulary_of(world) -> Vocabulary:
  return Vocabulary.load(world / "work" / "text" / "vocabulary.json")


@pytest.mark.parametrize("name", ["base", "untied"])
def test_the_rows_of_a_base_stay_and_new_ones_follow(world, name):
  vocabulary = vocabulary_of(world)
  found = import_base(world / name, vocabulary=vocabulary)
  old = trees.flatten(import_language(world / name, extra_vocab_size=UNUSED))
  for table in ("embed", "head") if name == "untied" else ("embed",):
    rows = np.concatenate([found.params[f"decoder.{table}.{part}"] for part in ("text", "extra")])
    given = np.concatenate([old[f"{table}.{part}"] for part in ("text", "extra")])
    assert rows.dtype == given.dtype and len(rows) == vocabulary.size
    np.testing.assert_array_equal(rows[: len(given)], given)
    new, mean = rows[len(given) :].astype(np.float32), given.astype(np.float32).mean(0)
    np.testing.assert_allclose(new, np.broadcast_to(mean, new.shape), atol=2e-3)
    assert len(found.params[f"decoder.{table}.text"]) == vocabulary.text_size == len(given) - UNUSED
  same = set(old) - {f"{table}.{part}" for table in ("embed", "head") for part in ("text", "extra")}
  assert all(np.array_equal(old[path], found.params[f"decoder.{path}"]) for path in same)


def test_new_rows_may_be_those_of_a_new_table(world):
  vocabulary = vocabulary_of(world)
  draws = [import_base(world / "base", vocabulary=vocabulary, draw="normal", seed=seed) for seed in (0, 0, 1)]
  first, again, other = (np.asarray(base.params["decoder.embed.extra"])[UNUSED:] for base in draws)
  assert np.array_equal(first, again) and not np.array_equal(first, other)
  np.testing.assert_allclose(first.std(), 0.02, rtol=0.1)


def test_a_base_with_a_tower_is_a_stage_of_the_whole_model(world, capsys):
  work = world / "work"
  words = ("convert", "import", "--workdir", work, "--source", world / "base")
  assert omni(*words, "--stage", "whole", "--vision", world / "tower") == 0
  out = capsys.readouterr().out
  assert "new (mean)" in out and "vision: " in out and "projector: 4 parameters, all new" in out
  config, model = load_model(work / "stages" / "whole")
  assert isinstance(config, EmovaConfig) and config.vision == vision_config()
  tower = trees.flatten(model.vision)
  assert all(np.array_equal(leaf, tower[path]) for path, leaf in import_tower(world / "tower")[1].items())
  assert config.image_token == vocabulary_of(world).control("image")


def test_a_tower_is_found_within_a_model(world, tmp_path):
  write_tower(tmp_path, prefix="visual.")
  alone, within = import_tower(world / "tower"), import_tower(tmp_path)
  assert alone[0] == within[0]
  jax.tree.map(np.testing.assert_array_equal, alone[1], within[1])


def test_what_does_not_fit_is_refused_before_anything_is_written(world, tmp_path, capsys):
  work, words = world / "work", ("convert", "import", "--stage", "new", "--source")
  for source, changes, message in (
    (world / "base", ("--text-rows", 5), "leave it out"),
    (world / "tower", (), "model_type"),
    (world / "tower", ("--vision", world / "tower"), "has its own image tower"),
    (world / "base", ("--vision", world / "base"), "0 towers"),
  ):
    assert omni(*words, source, *changes, "--workdir", work) == 2
    assert message in capsys.readouterr().err
  assert omni(*words, world / "base", "--workdir", tmp_path) == 2
  assert "run `omni vocabulary`" in capsys.readouterr().err
  write_base(tmp_path / "short", vocab_size=20)
  assert omni(*words, tmp_path / "short", "--workdir", work) == 2
  assert "vocab_size 20" in capsys.readouterr().err
  assert not (work / "stages" / "new").exists()


def test_an_unknown_draw_is_refused(world):
  with pytest.raises(UserError, match="unknown draw"):
    import_base(world / "base", vocabulary=vocabulary_of(world), draw="zeros")


def test_the_exported_folder_is_read_by_transformers(world, tmp_path):
  torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
  work, vocabulary = world / "work", vocabulary_of(world)
  assert omni("convert", "import", "--workdir", work, "--stage", "alone", "--source", world / "base") == 0
  assert omni("convert", "export", "--workdir", work, "--stage", "alone", "--out", tmp_path) == 0
  model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
  tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
  assert len(tokenizer) <= model.config.vocab_size == vocabulary.size
  ids = tokenizer("the dog <|speech_5|><|emotion-happy|>").input_ids
  assert ids[-2:] == [vocabulary.unit_ids[5], vocabulary.styles["emotion-happy"]]
  _, ours = load_model(work / "stages" / "alone")
  tokens = jnp.asarray([ids])
  batch = {"tokens": tokens, "positions": jnp.arange(len(ids))[None], "segment_ids": jnp.ones_like(tokens)}
  with torch.no_grad():
    theirs = model(torch.tensor([ids])).logits.numpy()
  np.testing.assert_allclose(ours(batch), theirs, rtol=1e-4, atol=1e-4)
  assert (
    omni("convert", "export", "--workdir", work, "--stage", "alone", "--format", "hf", "--out", tmp_path / "hf") == 2
  )
  assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "qwen2"
