"""Released parts of speech in the originals' formats -> stages -> the same files, bit for bit, by `omni convert`."""

import json

import numpy as np
import pytest

from omni_jax.checkpoint.store import load_model
from omni_jax.cli import main
from omni_jax.convert import snac, unit_hifigan
from omni_jax.convert.emova_voice import export_emova_voice
from omni_jax.convert.hubert import HubertNames, export_hubert_tensors
from omni_jax.convert.shards import Folder, write_folder
from omni_jax.convert.speech_files import Part, SpeechSource, read_part, write_part
from omni_jax.convert.speech_stage import BESIDE, part_in
from omni_jax.convert.speech_to_unit import HUGGING_FACE_PREFIX, Spelling, export_speech_to_unit
from omni_jax.convert.style_files import LIST, read_styles, write_styles
from omni_jax.convert.table import export_tensors
from omni_jax.convert.torch_files import in_torch, write_torch
from omni_jax.convert.unit_to_speech import export_unit_to_speech
from omni_jax.convert.vits_card import read_config, write_config
from omni_jax.convert.vocoder_files import write_snac, write_unit_hifigan
from omni_jax.convert.whisper import WHOLE_PREFIX, whisper_rules
from omni_jax.core import trees
from omni_jax.core.config import to_json
from omni_jax.core.errors import UserError
from omni_jax.speech.conditions import CONDITIONS, Centroids
from omni_jax.speech.encoder_block import EncoderConfig
from omni_jax.speech.hifigan import HiFiGANConfig
from omni_jax.speech.kmeans import write_centres
from omni_jax.speech.unit_to_speech import EMOVA_UNIT_TO_SPEECH, uvits
from omni_jax.speech.unit_voice import UnitVoice
from omni_jax.speech.whisper import WhisperConfig
from tests.convert.test_snac import RELEASED
from tests.convert.test_unit_hifigan import SMALL
from tests.models.drawn import drawn
from tests.speech import huberts, spirals
from tests.speech.drawn import drawn_model
from tests.speech.parts import KMEANS
from tests.speech.small_vits import CONDITION, small_model

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

# A VITS as its config.json can say it: of EMOVA's depths, at small widths.
VITS = uvits(
  width=8, mlp_dim=10, vocab_size=178 + 20, first_unit=178, condition=6,
  decoder=HiFiGANConfig(
    inputs=4, width=8, rates=(4, 2), taps=(8, 4), residual="1", block_taps=(3,), block_dilations=((1, 3),), condition=6,
    normed_ends=False, last_bias=False,
  ),
)  # fmt: skip
WHISPER = WhisperConfig(
  num_mels=8,
  num_positions=10,
  encoder=EncoderConfig(width=8, depth=2, num_heads=2, mlp_dim=12, norm_eps=1e-5, norm_first=True, key_bias=False),
)


def omni(*arguments) -> int:
  return main.main([str(word) for word in arguments])


def arrays(model) -> dict[str, np.ndarray]:
  return {path: np.asarray(leaf) for path, leaf in trees.flatten(model).items()}


def centroids(width: int) -> Centroids:
  vectors = np.random.default_rng(3).standard_normal((4, width)).astype(np.float32)
  return Centroids(CONDITIONS[::-1][:4], vectors)


def same_tensors(one, other) -> bool:
  return set(one) == set(other) and all(
    np.asarray(one[name]).tobytes() == np.asarray(other[name]).tobytes() for name in one
  )


def imported(work, part, source, *flags) -> tuple:
  """Returns config and model of the stage that an import makes."""
  assert omni("convert", "import", "--workdir", work, "--stage", part, "--part", part, "--source", source, *flags) == 0
  return load_model(work / "stages" / part)


def exported(work, stage, *flags):
  """Returns the folder that the stage is written to, after it is verified."""
  assert omni("convert", "export", "--workdir", work, "--stage", stage, *flags) == 0
  verify = [flag for place, flag in enumerate(flags) if "--with" not in flags[max(place - 1, 0) : place + 1]]
  assert omni("convert", "verify", "--workdir", work, "--stage", stage, *verify) == 0
  return work / "export" / stage


def test_the_emova_tokenizer_folder_becomes_two_stages_and_comes_back(tmp_path, capsys):
  hearing, speaking = spirals.drawn(), small_model(voice=True, normed_decoder=True)
  voice = UnitVoice(speaking, centroids=centroids(CONDITION))
  mask = {"encoder.mask_emb": np.random.default_rng(1).normal(size=128).astype(np.float32)}
  spelling = Spelling(prefix=HUGGING_FACE_PREFIX)
  tensors = export_speech_to_unit(hearing.config, arrays(hearing), beside=mask, spelling=spelling)
  fields, spoken = export_emova_voice(voice)
  source = tmp_path / "source"
  write_folder(source, [*tensors.items(), *spoken])
  (source / "config.json").write_text(json.dumps({"model_type": "emova_speech_tokenizer"} | fields))
  # The released sizes are known; others are stated.
  own = {"speech-to-unit": to_json(hearing.config), "unit-to-speech": to_json(speaking.config)}
  (source / "omni_jax.json").write_text(json.dumps(own))
  config, model = imported(tmp_path, "speech-to-unit", source)
  assert config == hearing.config and same_tensors(arrays(model), arrays(hearing))
  assert (tmp_path / "stages" / "speech-to-unit" / BESIDE).exists()
  config, model = imported(tmp_path, "unit-to-speech", source)
  assert config.model == speaking.config and config.conditions == CONDITIONS[::-1][:4]
  assert same_tensors(arrays(model), arrays(voice))
  folder = exported(tmp_path, "speech-to-unit", "--with", "unit-to-speech")
  assert same_tensors(Folder(folder), Folder(source))
  assert json.loads((folder / "config.json").read_text())["u2s_style2idx"] == fields["u2s_style2idx"]
  assert "the same bits" in capsys.readouterr().out


def test_a_lightning_checkpoint_comes_back(tmp_path):
  hearing = spirals.drawn()
  mask = {"encoder.mask_emb": np.random.default_rng(1).normal(size=128).astype(np.float32)}
  tensors = export_speech_to_unit(hearing.config, arrays(hearing), beside=mask)
  source = tmp_path / "source" / "epoch=316.ckpt"
  write_torch(source, {"state_dict": in_torch(tensors), "epoch": 316})
  (source.parent / "omni_jax.json").write_text(json.dumps({"speech-to-unit": to_json(hearing.config)}))
  _, model = imported(tmp_path, "speech-to-unit", source)
  assert same_tensors(arrays(model), arrays(hearing))
  folder = exported(tmp_path, "speech-to-unit", "--format", "origin")
  written = torch.load(folder / "speech_to_unit.ckpt", weights_only=True)["state_dict"]
  assert same_tensors({name: tensor.numpy() for name, tensor in written.items()}, tensors)


def test_the_config_of_a_vits_comes_back():
  """Of EMOVA's depths, at any width; the released sizes are those of the released card."""
  assert read_config(json.loads(json.dumps(write_config(VITS))), vocab_size=198) == VITS
  released = write_config(EMOVA_UNIT_TO_SPEECH)
  assert released["model"]["hidden_channels"] == 192 and released["data"]["n_speakers"] == 1344
  assert read_config(released, vocab_size=4274) == EMOVA_UNIT_TO_SPEECH
  with pytest.raises(UserError, match=r"no model\.n_heads, data\.n_speakers"):
    read_config({part: {k: v for k, v in values.items() if k not in ("n_heads", "n_speakers")}
                 for part, values in released.items()}, vocab_size=4274)  # fmt: skip
  with pytest.raises(UserError, match=r"sizes that config\.json"):
    write_config(small_model().config)


def test_a_pth_and_its_styles_come_back_and_speak(tmp_path, capsys):
  model, styles = small_model(voice=True, normed_decoder=True), centroids(CONDITION)
  # Their .pth files write the names of norms in small letters.
  tensors = export_unit_to_speech(model)
  spelled = {name.replace("GAMMA", "gamma").replace("BETA", "beta"): value for name, value in tensors.items()}
  source = tmp_path / "source"
  write_torch(source / "G_322000.pth", {"model": in_torch(spelled), "iteration": 1, "optimizer": None})
  (source / "omni_jax.json").write_text(json.dumps({"unit-to-speech": to_json(model.config)}))
  (source / "centroids").mkdir()
  lines = ["condition|style_centroid_file"]
  for number, (name, vector) in enumerate(zip(styles.names, styles.vectors, strict=True)):
    np.save(source / "centroids" / f"c{number}.npy", vector.reshape(1, -1, 1))
    lines.append(f"{name}|centroids/c{number}.npy")
  (source / LIST).write_text("\n".join(lines))
  config, found = imported(tmp_path, "unit-to-speech", source / "G_322000.pth", "--styles", source / LIST)
  assert config.model == model.config and same_tensors(arrays(found), arrays(UnitVoice(model, centroids=styles)))
  part = part_in(tmp_path / "stages" / "unit-to-speech", config, found)
  assert read_styles(write_styles(styles, tmp_path)).vectors.tobytes() == styles.vectors.tobytes()
  written = export_unit_to_speech(trees.unflatten(found, part.leaves).model)
  assert same_tensors(written, tensors)
  capsys.readouterr()
  say = ("say", "--workdir", tmp_path, "--vocoder", "unit-to-speech", "--units", "<|speech_3|><|speech_19|>")
  assert omni(*say, "--condition", styles.names[1], "--out", tmp_path / "said.wav") == 0
  assert "2 units" in capsys.readouterr().out and (tmp_path / "said.wav").stat().st_size > 44
  assert omni(*say, "--condition", "gender-robot", "--out", tmp_path / "x.wav") == 2
  assert "unknown condition 'gender-robot'" in capsys.readouterr().err and not (tmp_path / "x.wav").exists()


@pytest.mark.slow
def test_a_unit_vocoder_comes_back_and_speaks_with_a_speaker(tmp_path, capsys):
  model = drawn_model(unit_hifigan.read_config(SMALL))
  write_unit_hifigan(model, tmp_path / "source", name="g_00500000")
  config, found = imported(tmp_path, "unit-hifigan", tmp_path / "source")
  assert config == model.config and same_tensors(arrays(found), arrays(model))
  folder = exported(tmp_path, "unit-hifigan")
  before, after = (
    torch.load(path, weights_only=True)["generator"] for path in (tmp_path / "source/g_00500000", folder / "g_00000000")
  )
  assert same_tensors({name: x.numpy() for name, x in before.items()}, {name: x.numpy() for name, x in after.items()})
  say = ("say", "--workdir", tmp_path, "--vocoder", "unit-hifigan", "--units", "<sosp><3><19><eosp>")
  assert omni(*say, "--condition", "2", "--out", tmp_path / "said.wav") == 0
  assert omni(*say, "--condition", "4", "--out", tmp_path / "none.wav") == 2
  assert "speaker 4" in capsys.readouterr().err and not (tmp_path / "none.wav").exists()


@pytest.mark.slow
def test_a_codec_comes_back_and_hears(tmp_path, capsys):
  soundfile = pytest.importorskip("soundfile")
  model = drawn_model(snac.read_config(RELEASED | {"encoder_dim": 2, "decoder_dim": 16, "codebook_size": 8}))
  write_snac(model, tmp_path / "source")
  config, found = imported(tmp_path, "snac", tmp_path / "source")
  assert config == model.config and same_tensors(arrays(found), arrays(model))
  folder = exported(tmp_path, "snac")
  before, after = (torch.load(path / "pytorch_model.bin", weights_only=True) for path in (tmp_path / "source", folder))
  assert same_tensors({name: x.numpy() for name, x in before.items()}, {name: x.numpy() for name, x in after.items()})
  capsys.readouterr()
  soundfile.write(tmp_path / "q.wav", np.sin(np.arange(9000) / 9) * 0.3, 48000)
  assert omni("hear", "--workdir", tmp_path, "--tokenizer", "snac", "--units", "--audio", tmp_path / "q.wav") == 0
  codes = capsys.readouterr().out.strip().rpartition(": ")[2]
  assert len(codes.split()) == 7 * 3  # 4,500 samples at 24 kHz
  said = ("say", "--workdir", tmp_path, "--vocoder", "snac", "--out", tmp_path / "a.wav")
  assert omni(*said, "--units", "1 2 3") == 2
  assert "frames of 7 codes" in capsys.readouterr().err


def test_a_hubert_and_its_centres_come_back(tmp_path):
  tokenizer, source = drawn(KMEANS, deviation=0.5), tmp_path / "source"
  tensors = export_hubert_tensors(KMEANS.hubert, arrays(tokenizer.hubert), HubertNames.TRANSFORMERS)
  write_folder(source, tensors.items())
  (source / "config.json").write_text(json.dumps(huberts.card(KMEANS.hubert)))
  hubert = read_part("hubert", SpeechSource(path=source))
  assert hubert.config == KMEANS.hubert and same_tensors(hubert.leaves, arrays(tokenizer.hubert))
  write_centres(tmp_path / "centres.npy", np.asarray(tokenizer.centres[...]))
  flags = ("--centres", tmp_path / "centres.npy", "--layer", "1")
  config, found = imported(tmp_path, "kmeans", source, *flags)
  assert config.num_classes == 30 and same_tensors(arrays(found), arrays(tokenizer))
  folder = exported(tmp_path, "kmeans")
  assert same_tensors(Folder(folder), Folder(source))
  theirs = pytest.importorskip("transformers").HubertModel.from_pretrained(folder)
  assert theirs.config.hidden_size == KMEANS.hubert.encoder.width


def test_a_whisper_gives_its_encoder(tmp_path, capsys):
  model, source = drawn(WHISPER), tmp_path / "source"
  tensors = {WHOLE_PREFIX + name: tensor for name, tensor in export_tensors(whisper_rules(), arrays(model)).items()}
  write_folder(source, [*tensors.items(), ("model.decoder.layer_norm.bias", np.zeros(8, np.float32))])
  sizes = {
    "model_type": "whisper", "d_model": 8, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 12,
    "num_mel_bins": 8, "max_source_positions": 10, "decoder_layers": 1,
  }  # fmt: skip
  (source / "config.json").write_text(json.dumps(sizes))
  config, found = imported(tmp_path, "whisper", source)
  assert config == WHISPER and same_tensors(arrays(found), arrays(model))
  assert same_tensors(Folder(exported(tmp_path, "whisper")), tensors)
  write_part(
    Part(config=config, leaves=arrays(drawn(WHISPER, seed=5))), tmp_path / "export" / "whisper", scheme="stock"
  )
  assert omni("convert", "verify", "--workdir", tmp_path, "--stage", "whisper") == 2
  assert "differences" in capsys.readouterr().err
  assert omni("convert", "export", "--workdir", tmp_path, "--stage", "whisper", "--format", "origin") == 2
  assert "only EMOVA's two parts have several" in capsys.readouterr().err
  # It is no vocoder and no tokenizer.
  assert omni("say", "--workdir", tmp_path, "--vocoder", "whisper", "--units", "1", "--out", tmp_path / "x.wav") == 2
  assert "holds a WhisperEncoder" in capsys.readouterr().err


def test_what_does_not_fit_is_told_and_nothing_is_written(tmp_path, capsys):
  def refused(*words) -> str:
    assert omni("convert", "import", "--workdir", tmp_path, "--stage", "new", *words) == 2
    assert not (tmp_path / "stages" / "new").exists()
    return capsys.readouterr().err

  empty, text = tmp_path / "empty", tmp_path / "text.pth"
  empty.mkdir()
  text.write_text("no weights")
  assert "no such file or folder" in refused("--part", "snac", "--source", tmp_path / "missing")
  assert "0 files whose name begins with g_" in refused("--part", "unit-hifigan", "--source", empty)
  assert "cannot read text.pth" in refused("--part", "unit-to-speech", "--source", text)
  assert "it is of kmeans" in refused("--part", "snac", "--source", empty, "--layer", "3")
  write_torch(tmp_path / "other.pth", {"model": in_torch({"x": np.zeros(1)})})
  assert "no enc_p.emb.weight" in refused("--part", "unit-to-speech", "--source", tmp_path / "other.pth")
  tensors = export_hubert_tensors(KMEANS.hubert, arrays(drawn(KMEANS.hubert)), HubertNames.TRANSFORMERS)
  write_folder(empty, tensors.items())
  (empty / "config.json").write_text(json.dumps(huberts.card(KMEANS.hubert) | {"hidden_act": "relu"}))
  assert "hidden_act 'relu'" in refused("--part", "hubert", "--source", empty)
  (empty / "config.json").write_text(json.dumps(huberts.card(KMEANS.hubert)))
  assert "no centres" in refused("--part", "kmeans", "--source", empty)
  (empty / "config.json").write_text(json.dumps(huberts.card(KMEANS.hubert) | {"conv_stride": [5]}))
  assert "cannot use the values of config.json (ValueError" in refused("--part", "hubert", "--source", empty)
  (empty / "config.json").write_text(json.dumps({"model_type": "whisper"}))
  assert "no d_model" in refused("--part", "whisper", "--source", empty)
