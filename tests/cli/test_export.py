"""`omni export vocoder`: writes the file and says so; a missing checkpoint is told in one message."""

import pytest

from omni_jax.cli import export
from omni_jax.cli.main import main
from tests.speech.small_vits import small_model
from tests.speech.vocoders import SMALL, make_vocoder


def test_export_writes_the_file(monkeypatch, tmp_path, capsys):
  asked = []
  monkeypatch.setattr(export, "load_model", lambda stage: asked.append(stage) or (SMALL, make_vocoder()))
  assert main(["export", "vocoder", "--workdir", str(tmp_path)]) == 0
  assert asked == [tmp_path / "stages" / "vocoder"]
  assert (tmp_path / "export" / "vocoder.onnx").stat().st_size > 0
  assert "differs from JAX by (relative) waveform" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("form", "names"),
  [("onnx", {"v.units.onnx", "v.sound.onnx"}), ("piper", {"v.piper.onnx", "v.piper.onnx.json"})],
)
def test_files_of_a_stage_carry_its_name_or_the_one_given(form, names, monkeypatch, tmp_path):
  monkeypatch.setattr(export, "load_model", lambda stage: (None, small_model()))
  out = tmp_path / "some" / "v.onnx"
  assert main(["export", "vocoder", "--workdir", str(tmp_path), "--format", form, "--out", str(out)]) == 0
  assert {path.name for path in out.parent.iterdir()} == names


def test_without_a_checkpoint_nothing_is_written(tmp_path, capsys):
  assert main(["export", "vocoder", "--workdir", str(tmp_path)]) == 2
  assert "remedy" in capsys.readouterr().err
  assert not list(tmp_path.rglob("*.onnx"))
