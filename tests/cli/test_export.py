"""`omni export vocoder`: writes the file and says so; a missing checkpoint is told in one message."""

import numpy as np
import pytest

from omni_jax.cli import export
from omni_jax.cli.main import main
from omni_jax.convert import vocoder_files
from omni_jax.convert.unit_hifigan import read_config
from tests.convert.test_unit_hifigan import SMALL as UNIT_HIFIGAN
from tests.speech.drawn import drawn_model
from tests.speech.small_vits import small_model
from tests.speech.vocoders import SMALL, make_vocoder


def test_export_writes_the_file(monkeypatch, tmp_path, capsys):
  asked = []
  monkeypatch.setattr(export, "load_model", lambda stage: asked.append(stage) or (SMALL, make_vocoder()))
  assert main(["export", "vocoder", "--workdir", str(tmp_path)]) == 0
  assert asked == [tmp_path / "stages" / "vocoder"]
  names = {path.name for path in (tmp_path / "export").iterdir() if path.stat().st_size}
  assert names == {"vocoder.units.onnx", "vocoder.sound.onnx"}
  assert "differs from JAX by (relative) f0" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("form", "names"),
  [("onnx", {"v.units.onnx", "v.sound.onnx"}), ("piper", {"v.piper.onnx", "v.piper.onnx.json"})],
)
def test_files_of_a_stage_carry_its_name_or_the_one_given(form, names, monkeypatch, tmp_path):
  monkeypatch.setattr(export, "load_model", lambda stage: (None, small_model()))
  out = tmp_path / "some" / "v.onnx"
  assert main(["export", "vocoder", "--workdir", str(tmp_path), "--format", form, "--out", str(out)]) == 0
  assert {path.name for path in out.parent.iterdir()} == names


def test_torch_holds_the_same_bits_or_leaves_nothing(monkeypatch, tmp_path, capsys):
  torch = pytest.importorskip("torch")
  model = drawn_model(read_config(UNIT_HIFIGAN))
  monkeypatch.setattr(export, "load_model", lambda stage: (None, model))
  command = ["export", "vocoder", "--workdir", str(tmp_path), "--format", "torch", "--stage", "voice"]
  assert main(command) == 0
  folder = tmp_path / "export" / "voice"
  assert sorted(path.name for path in folder.iterdir()) == ["config.json", "g_00000000"]
  stored = torch.load(folder / "g_00000000", weights_only=True)["generator"]
  assert np.array_equal(stored["dict.weight"], model.units[...])
  assert "the same bits" in capsys.readouterr().out
  earlier = (folder / "g_00000000").read_bytes()
  write = vocoder_files.write_torch
  monkeypatch.setattr(vocoder_files, "write_torch", lambda path, value: write(path, {"generator": {}}))
  assert main(command) == 2
  assert (folder / "g_00000000").read_bytes() == earlier and list(folder.parent.iterdir()) == [folder]


def test_our_own_vocoder_has_no_original_in_torch(monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(export, "load_model", lambda stage: (SMALL, make_vocoder()))
  assert main(["export", "vocoder", "--workdir", str(tmp_path), "--format", "torch"]) == 2
  assert "a Vocoder" in capsys.readouterr().err and not (tmp_path / "export").exists()


def test_without_a_checkpoint_nothing_is_written(tmp_path, capsys):
  assert main(["export", "vocoder", "--workdir", str(tmp_path)]) == 2
  assert "remedy" in capsys.readouterr().err
  assert not list(tmp_path.rglob("*.onnx"))
