import dataclasses
import types

import numpy as np
import pytest

from omni_jax.checkpoint.store import load_model
from omni_jax.cli import convert as commands
from omni_jax.cli.main import main
from omni_jax.convert.language import export_language
from omni_jax.convert.mini_omni import read_mini_omni, write_mini_omni
from omni_jax.convert.mini_omni_base import import_mini_omni_base
from omni_jax.convert.shards import write_folder
from omni_jax.convert.table import export_stream
from omni_jax.convert.whisper import whisper_rules
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.models.mini_omni import mini_omni
from tests.models.drawn import drawn
from tests.models.test_mini_omni import LAYOUT, WHISPER
from tests.models.twins import decoder_config


# Qwen2's family, and Llama's, whose tables are two and whose queries have no offset.
@pytest.mark.parametrize("changes", [{}, {"qkv_bias": False, "tied": False}])
def test_a_stage_begins_with_a_language_model_and_a_whisper(tmp_path, changes):
  base = decoder_config(vocab_size=18, extra_vocab_size=0, **changes)
  decoder = drawn(base)
  export_language(decoder, tmp_path / "language")
  encoder = write_whisper(tmp_path / "whisper")
  config = mini_omni(base, layout=LAYOUT, hearing=WHISPER, inputs=12, speaker=1)
  folders = {"language": tmp_path / "language", "hearing": tmp_path / "whisper"}
  folder, report = import_mini_omni_base(config, tmp_path, name="base", **folders)
  assert report[1].startswith("new: adapter, speaker")
  found, model = load_model(folder)
  assert found == config
  np.testing.assert_array_equal(model.decoder.embed.text[...][:18], decoder.embed.text[...])
  ours, theirs = trees.flatten(model), trees.flatten(decoder)
  for path in theirs:
    if not path.startswith(("embed", "head")):
      np.testing.assert_array_equal(ours[f"decoder.{path}"], theirs[path])
  for path, leaf in trees.flatten(encoder).items():
    np.testing.assert_array_equal(ours[f"hearing.{path}"], leaf)
  with pytest.raises(UserError, match="exists"):
    import_mini_omni_base(config, tmp_path, name="base", **folders)
  other = dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, rope_theta=7.0))
  with pytest.raises(UserError, match="the decoder of the config"):
    import_mini_omni_base(other, tmp_path, name="other", **folders)
  assert not (tmp_path / "stages" / "other").exists()
  narrow = dataclasses.replace(config, layout=dataclasses.replace(LAYOUT, num_pieces=10))
  with pytest.raises(UserError, match="vocab_size 18"):
    import_mini_omni_base(narrow, tmp_path, name="narrow", **folders)


def write_whisper(folder):
  encoder = drawn(WHISPER)
  named = ((f"model.encoder.{name}", array) for name, array in export_stream(whisper_rules(), trees.flatten(encoder)))
  write_folder(folder, named)
  return encoder


def test_a_released_model_goes_in_and_comes_out_by_commands(tmp_path, monkeypatch, capsys):
  config = mini_omni(decoder_config(), layout=LAYOUT, hearing=WHISPER, inputs=12)
  released = drawn(dataclasses.replace(config, hearing=None))
  write_mini_omni(released, tmp_path / "released")
  write_whisper(tmp_path / "whisper")
  run = types.SimpleNamespace(model=dataclasses.replace(config, speaker_depth=1))
  monkeypatch.setattr(commands, "load_config", lambda *_, **__: run)

  def omni(*words):
    return main(["convert", *map(str, words), "--workdir", str(tmp_path)])

  words = ("import", "--stage", "base", "--source", tmp_path / "released", "--hearing", tmp_path / "whisper")
  assert omni(*words) != 0 and "one of --hearing and --config" in capsys.readouterr().err
  assert omni(*words, "--config", "a.py:b") == 0 and "new: speaker" in capsys.readouterr().out
  assert omni("export", "--stage", "base", "--format", "lit") == 0
  found = read_mini_omni(tmp_path / "export" / "lit")
  ours, theirs = trees.flatten(found), trees.flatten(released)
  assert all(np.asarray(ours[path]).tobytes() == np.asarray(theirs[path]).tobytes() for path in theirs)
  assert set(ours) > set(theirs) and found.config.speaker_depth == 1
  run.model = dataclasses.replace(config, layout=dataclasses.replace(LAYOUT, lead=3))
  assert omni(*words, "--config", "a.py:b") != 0
  assert omni(*(word if word != "base" else "other" for word in words), "--config", "a.py:b") != 0
  assert "the sizes of the config" in capsys.readouterr().err
