import json

import jax
import numpy as np
import pytest

from omni_jax.checkpoint.store import load_model
from omni_jax.cli import convert, main
from omni_jax.convert.emova_folder import export_folder
from omni_jax.convert.language import import_language
from omni_jax.convert.verify import Parity, add_parity
from omni_jax.core import trees
from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.emova import EmovaConfig
from omni_jax.models.projectors import ProjectorConfig
from omni_jax.models.vision_encoder import VisionConfig
from omni_jax.tokens.text import train_text_tokenizer
from omni_jax.tokens.vocabulary import make_vocabulary

CONFIG = EmovaConfig(
  decoder=DecoderConfig(
    vocab_size=20,
    extra_vocab_size=12,
    width=16,
    depth=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    mlp_dim=24,
    rope_theta=100.0,
    norm_eps=1e-6,
    qkv_bias=True,
    tied=True,
  ),
  vision=VisionConfig(patch=2, temporal_patch=1, merge=2, width=16, depth=1, num_heads=2, mlp_dim=24, out_width=12),
  projector=ProjectorConfig(inputs=12, outputs=16),
  image_token=3,
)


def omni(*arguments) -> int:
  return main.main(["convert", *map(str, arguments)])


@pytest.fixture
def stage(tmp_path, monkeypatch):
  """A working folder whose stage `tune` is a tiny model."""
  model = CONFIG.make(key=jax.random.key(0))
  monkeypatch.setattr(convert, "load_model", lambda folder: (CONFIG, model))
  (tmp_path / "text").mkdir()
  (tmp_path / "text" / "vocabulary.json").write_text("{}")
  return tmp_path


def test_a_stage_becomes_a_folder_with_its_vocabulary(stage, capsys):
  assert omni("export", "--workdir", stage) == 0
  folder = stage / "export" / "stock"
  assert str(folder) in capsys.readouterr().out
  names = ["README.md", "config.json", "model.safetensors", "vocabulary.json"]
  assert sorted(path.name for path in folder.iterdir()) == names
  assert "parameters: 4," in (folder / "README.md").read_text()
  assert import_language(folder, extra_vocab_size=12).config == CONFIG.decoder


@pytest.mark.parametrize("scheme", ["origin", "hf"])
def test_a_whole_model_comes_back_as_a_stage(stage, scheme, capsys):
  assert omni("export", "--workdir", stage, "--format", scheme) == 0
  source, other = stage / "export" / scheme, stage / "other"
  assert omni("import", "--workdir", other, "--stage", "start", "--source", source, "--text-rows", 20) == 0
  config, model = load_model(other / "stages" / "start")
  assert config == CONFIG
  expected = trees.flatten(CONFIG.make(key=jax.random.key(0)))
  assert all(np.array_equal(leaf, expected[path]) for path, leaf in trees.flatten(model).items())
  assert omni("import", "--workdir", other, "--stage", "start", "--source", source) == 2
  assert "the stage 'start' exists" in capsys.readouterr().err


def test_a_folder_that_does_not_fit_leaves_no_stage(stage, capsys):
  export_folder(CONFIG, trees.flatten(CONFIG.make(key=jax.random.key(0))), stage / "model", scheme="hf")
  card = json.loads((stage / "model" / "omni_jax.json").read_text())
  card["model"]["decoder"]["mlp_dim"] = 25
  (stage / "model" / "omni_jax.json").write_text(json.dumps(card))
  assert omni("import", "--workdir", stage, "--stage", "new", "--source", stage / "model", "--text-rows", 20) == 2
  assert "differ in mlp_dim" in capsys.readouterr().err and not (stage / "stages" / "new").exists()


def test_a_written_folder_is_verified_in_its_card(stage, capsys):
  pytest.importorskip("transformers")
  omni("export", "--workdir", stage)
  assert omni("verify", "--workdir", stage) == 0
  rows = [line for line in capsys.readouterr().out.splitlines() if "float32" in line]
  assert len(rows) == 3 and all("100.0%" in row for row in rows)
  assert all(float(row.split("|")[4]) < 1e-4 for row in rows)
  card = (stage / "export" / "stock" / "README.md").read_text()
  assert "parameters: 4," in card and all(row in card for row in rows)


def test_a_whole_model_is_verified_with_images(stage, capsys):
  pytest.importorskip("transformers")
  omni("export", "--workdir", stage, "--format", "hf")
  assert omni("verify", "--workdir", stage, "--format", "hf") == 0
  rows = [line for line in capsys.readouterr().out.splitlines() if "float32" in line]
  assert [row.split("|")[1].strip() for row in rows] == ["text", "units", "both", "images"]
  assert all(float(row.split("|")[4]) < 1e-4 for row in rows)
  assert all(row in (stage / "export" / "hf" / "README.md").read_text() for row in rows)
  (stage / "export" / "hf" / "configuration_emova.py").unlink()
  assert omni("verify", "--workdir", stage, "--format", "hf") == 2
  assert "not as this version writes them: configuration_emova.py" in capsys.readouterr().err


def test_the_tokenizer_is_written_beside_with_the_template(stage, capsys):
  # A vocabulary of a model as small as this one is not made: the files are what is looked at.
  tokenizer = train_text_tokenizer(["the red dog"] * 3, path=stage / "text" / "tokenizer.model", num_pieces=268)
  make_vocabulary(tokenizer, text_size=300, codebook_size=64).save(stage / "text" / "vocabulary.json")
  assert omni("export", "--workdir", stage, "--format", "hf") == 0
  folder = stage / "export" / "hf"
  card = json.loads((folder / "tokenizer_config.json").read_text())
  assert card["eos_token"] == "<|end|>" and "chat_template" not in card
  generation = json.loads((folder / "generation_config.json").read_text())
  assert set(generation) == {"do_sample", "max_new_tokens", "eos_token_id", "pad_token_id"}
  assert omni("export", "--workdir", stage, "--template", "plain") == 0
  card = json.loads((stage / "export" / "stock" / "tokenizer_config.json").read_text())
  assert "chat_template" in card
  capsys.readouterr()
  assert omni("export", "--workdir", stage, "--out", stage / "none", "--template", "qwen2") == 2
  assert "the template spells '<|im_start|>'" in capsys.readouterr().err and not (stage / "none").exists()


def test_a_newer_parity_table_replaces_the_older(tmp_path):
  def row(absolute):
    return Parity(inputs="text", dtype="float32", absolute=absolute, relative=0.0, agreement=0.5, first_apart=7)

  (tmp_path / "README.md").write_text("# mine\n")
  add_parity(tmp_path, [row(1.0)])
  add_parity(tmp_path, [row(2.0)])
  text = (tmp_path / "README.md").read_text()
  assert text.startswith("# mine") and "2.00e+00 | 0.00e+00 | 50.0% | 7" in text and "1.00e+00" not in text


def test_a_missing_stage_and_another_model_are_told(tmp_path, monkeypatch, capsys):
  assert omni("export", "--workdir", tmp_path) == 2
  monkeypatch.setattr(convert, "load_model", lambda folder: (None, object()))
  assert omni("export", "--workdir", tmp_path, "--stage", "style") == 2
  assert "stage 'style' holds a object" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--workdir", "--stage", "--out", "--dtype", "--format"])
def test_help_names_every_flag(flag, capsys):
  with pytest.raises(SystemExit):
    omni("export", "--help")
  assert flag in capsys.readouterr().out
