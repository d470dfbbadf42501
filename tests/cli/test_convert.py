import jax
import pytest

from omni_jax.cli import convert, main
from omni_jax.convert.language import import_language
from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.emova import EmovaConfig
from omni_jax.models.projectors import ProjectorConfig
from omni_jax.models.vision_encoder import VisionConfig

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


def test_a_stage_becomes_a_folder_with_its_vocabulary(tmp_path, monkeypatch, capsys):
  model = CONFIG.make(key=jax.random.key(0))
  monkeypatch.setattr(convert, "load_model", lambda folder: (CONFIG, model))
  (tmp_path / "text").mkdir()
  (tmp_path / "text" / "vocabulary.json").write_text("{}")
  assert main.main(["convert", "--workdir", str(tmp_path)]) == 0
  folder = tmp_path / "export" / "hf"
  assert str(folder) in capsys.readouterr().out
  assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "vocabulary.json"]
  assert import_language(folder, extra_vocab_size=12).config == CONFIG.decoder


def test_a_missing_stage_and_another_model_are_told(tmp_path, monkeypatch, capsys):
  assert main.main(["convert", "--workdir", str(tmp_path), "--stage", "tune"]) == 2
  monkeypatch.setattr(convert, "load_model", lambda folder: (None, object()))
  assert main.main(["convert", "--workdir", str(tmp_path), "--stage", "style"]) == 2
  assert "stage 'style' holds a object" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--workdir", "--stage", "--out", "--dtype"])
def test_help_names_every_flag(flag, capsys):
  with pytest.raises(SystemExit):
    main.main(["convert", "--help"])
  assert flag in capsys.readouterr().out
