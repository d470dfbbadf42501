"""Released parts of speech as files, read and written in the originals' own formats.

    speech-to-unit   EMOVA: a Lightning checkpoint of torch, or `encoder.*` of emova_speech_tokenizer_hf (safetensors)
    unit-to-speech   EMOVA: G_*.pth with config.json and centroids of styles, or `decoder.*` of the same folder
    unit-hifigan     fairseq: g_* with config.json
    snac             the `snac` package: config.json and pytorch_model.bin
    hubert           transformers: config.json and safetensors; fairseq's tensors as safetensors (`convert.hubert`)
    kmeans           a HuBERT, and centres as .npy
    whisper          transformers: the encoder of a whole Whisper

A folder that we wrote says its config in `omni_jax.json` besides, since a Lightning checkpoint says none and the others
not all. Without it EMOVA's are taken to be of the released sizes.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from omni_jax.convert import hubert_card, vits_card, whisper
from omni_jax.convert.emova_voice import export_emova_voice, import_emova_voice
from omni_jax.convert.folders import read_json, values_of, write_json
from omni_jax.convert.hubert import (
  HubertNames,
  export_hubert_tensors,
  hubert_rules,
  import_hubert_tensors,
  import_kmeans_tokenizer,
)
from omni_jax.convert.part_cards import OWN_CONFIG
from omni_jax.convert.shards import Folder, write_folder
from omni_jax.convert.speech_to_unit import HUGGING_FACE_PREFIX, Spelling, export_speech_to_unit, import_speech_to_unit
from omni_jax.convert.style_files import LIST, read_styles, write_styles
from omni_jax.convert.table import export_tensors, import_leaves, prefixed
from omni_jax.convert.tensors import Held
from omni_jax.convert.torch_files import in_numpy, in_torch, read_torch, write_torch
from omni_jax.convert.unit_to_speech import export_unit_to_speech, import_unit_to_speech
from omni_jax.convert.vocoder_files import read_snac, read_unit_hifigan, write_snac, write_unit_hifigan
from omni_jax.core import trees
from omni_jax.core.config import from_json, to_json
from omni_jax.core.errors import UserError
from omni_jax.speech.hubert import HubertConfig
from omni_jax.speech.kmeans import read_centres, write_centres
from omni_jax.speech.kmeans_tokenizer import SPEECH_GPT_TOKENIZER, KMeansTokenizerConfig
from omni_jax.speech.snac import SNACConfig
from omni_jax.speech.speech_to_unit import EMOVA_SPEECH_TO_UNIT, SpeechToUnitConfig
from omni_jax.speech.unit_hifigan import UnitHiFiGANConfig
from omni_jax.speech.unit_to_speech import EMOVA_UNIT_TO_SPEECH, UnitToSpeechConfig
from omni_jax.speech.unit_voice import UnitVoice, UnitVoiceConfig
from omni_jax.speech.whisper import WhisperConfig

Leaves = Mapping[str, Any]
CENTRES = "centres.npy"
_CONFIG = "config.json"
_LIGHTNING, _PTH = "speech_to_unit.ckpt", "G_0.pth"
_STATE, _MODEL = "state_dict", "model"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechSource:
  """What is read.

  Attributes:
    path: a folder, or the file of the weights.
    styles: with unit-to-speech as .pth: `condition2style_centroid.txt`, beside which the vectors lie.
    centres: with kmeans: .npy or .npz.
    layer: with kmeans: whose frames the centres are of; SpeechGPT's by default.
  """

  path: Path
  styles: Path | None = None
  centres: Path | None = None
  layer: int = SPEECH_GPT_TOKENIZER.layer


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Part:
  """A part of speech as a stage keeps it.

  Attributes:
    config: of the model.
    leaves: parameters by dotted path.
    beside: what the file holds beside parameters, under its own names; written again on export.
  """

  config: Any
  leaves: Leaves
  beside: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
  """How one part is read and written; `write` takes the part, a folder, and the format's name."""

  config: Any  # the class of its config, or several
  read: Callable[[SpeechSource], Part]
  write: Callable[[Part, Path, str], None]


def part_of(config: Any) -> str | None:
  """Returns the name of the part that a config makes, None for what is no part of speech."""
  return next((name for name, form in FORMATS.items() if isinstance(config, form.config)), None)


def part_from(config: Any, model: Any, *, beside: Mapping[str, np.ndarray] | None = None) -> Part | None:
  """Returns what a stage holds as a part, None if it is no part of speech; leaves are arrays of the host."""
  if part_of(config) is None:
    return None
  if isinstance(config, UnitToSpeechConfig):  # trained here, without styles
    config, model = UnitVoiceConfig(model=config), UnitVoice(model)
  return Part(config=config, leaves=_arrays(trees.flatten(model)), beside=beside or {})


def read_part(name: str, source: SpeechSource) -> Part:
  """Returns a part of a released file or folder.

  Raises:
    UserError: a file is missing, damaged or of another model; everything that does not fit is told at once.
  """
  if not source.path.exists():
    raise UserError("no such file or folder", where=source.path, rule="the source exists", remedy="check the path")
  return FORMATS[name].read(source)


def write_part(part: Part, folder: Path, *, scheme: str) -> None:
  """Writes a part in its original's format.

  Args:
    part: what is written.
    folder: made if missing.
    scheme: `hf` or `origin` for EMOVA's two, `stock` the only format of the others.

  Raises:
    UserError: the part has no such format.
  """
  name = part_of(part.config)
  assert name is not None, "only parts of speech are written here"
  emova = name in EMOVA_PARTS
  if scheme == "stock" and emova:
    scheme = "hf"
  if not emova and scheme != "stock":
    raise UserError(
      f"format {scheme!r} of {name}",
      where="--format",
      rule="only EMOVA's two parts have several",
      remedy="leave it out",
    )
  FORMATS[name].write(part, folder, scheme)


def written(name: str, folder: Path, *, scheme: str) -> SpeechSource:
  """Returns what `write_part` wrote, as `read_part` takes it."""
  if scheme != "origin" or name not in EMOVA_PARTS:
    return SpeechSource(path=folder)
  if name == _HEARING:
    return SpeechSource(path=folder / _LIGHTNING)
  return SpeechSource(path=folder / _PTH, styles=folder / LIST if (folder / LIST).exists() else None)


def write_tokenizer(hearing: Part, voice: Part, folder: Path) -> None:
  """Writes EMOVA's Hugging Face tokenizer, both halves in one file."""
  fields, tensors = export_emova_voice(_model(voice))
  write_folder(folder, {**_hearing_tensors(hearing), **dict(tensors)}.items())
  write_json(folder / _CONFIG, _tokenizer_card() | fields)
  write_json(folder / OWN_CONFIG, {_HEARING: to_json(hearing.config), _SPEAKING: to_json(_model(voice).model.config)})


_HEARING, _SPEAKING = "speech-to-unit", "unit-to-speech"
EMOVA_PARTS = (_HEARING, _SPEAKING)


def _read_hearing(source: SpeechSource) -> Part:
  config = _own_config(source.path, _HEARING) or EMOVA_SPEECH_TO_UNIT
  if source.path.is_dir():
    tensors = Folder(source.path)
  else:
    held = read_torch(source.path)
    tensors = Held(in_numpy(held.get(_STATE, held) if isinstance(held, dict) else held, where=source.path))
    tensors.origin = source.path
  leaves, beside = import_speech_to_unit(config, tensors, shapes=_shapes(config))
  return Part(config=config, leaves=leaves, beside=beside)


def _write_hearing(part: Part, folder: Path, scheme: str) -> None:
  own = {_HEARING: to_json(part.config)}
  if scheme == "hf":
    write_folder(folder, _hearing_tensors(part).items())
    write_json(folder / _CONFIG, _tokenizer_card())
  else:
    tensors = export_speech_to_unit(part.config, part.leaves, beside=part.beside)
    write_torch(folder / _LIGHTNING, {_STATE: in_torch(tensors)})
  write_json(folder / OWN_CONFIG, own)


def _hearing_tensors(part: Part) -> dict[str, np.ndarray]:
  spelling = Spelling(prefix=HUGGING_FACE_PREFIX)
  return export_speech_to_unit(part.config, part.leaves, beside=part.beside, spelling=spelling)


def _tokenizer_card() -> dict[str, Any]:
  return {"model_type": "emova_speech_tokenizer", "s2u_unit_type": "40ms_multilingual_8888"}


def _read_speaking(source: SpeechSource) -> Part:
  own = _own_config(source.path, _SPEAKING)
  if source.path.is_dir():
    voice = import_emova_voice(source.path, config=own or EMOVA_UNIT_TO_SPEECH)
  else:
    held = read_torch(source.path)
    tensors = in_numpy(held.get(_MODEL, held) if isinstance(held, dict) else held, where=source.path)
    if vits_card.TABLE not in tensors:
      raise UserError(
        f"no {vits_card.TABLE}",
        where=source.path,
        rule="the file holds a unit-to-speech model",
        remedy="check the file",
      )
    rows, card = len(tensors[vits_card.TABLE]), source.path.parent / _CONFIG
    with values_of(card):
      config = own or vits_card.read_config(read_json(card), vocab_size=rows, where=card)
    given = Held(tensors)
    given.origin = source.path
    model = import_unit_to_speech(config, given)
    voice = UnitVoice(model, centroids=None if source.styles is None else read_styles(source.styles))
  return Part(config=voice.config, leaves=trees.flatten(voice))


def _write_speaking(part: Part, folder: Path, scheme: str) -> None:
  voice = _model(part)
  if scheme == "hf":
    fields, tensors = export_emova_voice(voice)
    write_folder(folder, tensors)
    write_json(folder / _CONFIG, _tokenizer_card() | fields)
    write_json(folder / OWN_CONFIG, {_SPEAKING: to_json(voice.model.config)})
    return
  write_json(folder / _CONFIG, vits_card.write_config(voice.model.config))
  # What their loader looks for beside the weights.
  rest = {"iteration": 0, "optimizer": None, "learning_rate": 0.0}
  write_torch(folder / _PTH, {_MODEL: in_torch(export_unit_to_speech(voice.model)), **rest})
  if voice.centroids is not None:
    write_styles(voice.centroids, folder)


def _read_unit_hifigan(source: SpeechSource) -> Part:
  path = source.path
  if path.is_dir():
    found = sorted(one for one in path.iterdir() if one.name.startswith("g_") and not one.name.endswith(".partial"))
    if len(found) != 1:
      raise UserError(
        f"{len(found)} files whose name begins with g_",
        where=path,
        rule="the folder holds the checkpoint of one generator and its config.json",
        remedy="give the file itself",
      )
    path = found[0]
  model = read_unit_hifigan(path)
  return Part(config=model.config, leaves=trees.flatten(model))


def _read_snac(source: SpeechSource) -> Part:
  model = read_snac(source.path)
  return Part(config=model.config, leaves=trees.flatten(model))


def _read_hubert(source: SpeechSource) -> Part:
  tensors = Folder(source.path)
  names = hubert_card.find_names(tensors, where=source.path)
  config = _hubert_config(source.path, tensors)
  rules = hubert_rules(config, names)
  return Part(config=config, leaves=import_leaves(rules, import_hubert_tensors(tensors, names), shapes=_shapes(config)))


def _hubert_config(folder: Path, tensors: Folder) -> HubertConfig:
  with values_of(folder / _CONFIG):
    return hubert_card.read_config(folder, tensors)


def _write_hubert(part: Part, folder: Path, scheme: str) -> None:
  del scheme
  tensors = export_hubert_tensors(part.config, _arrays(part.leaves), HubertNames.TRANSFORMERS)
  write_folder(folder, tensors.items())
  for name, card in hubert_card.write_config(part.config).items():
    write_json(folder / name, card)


def _read_kmeans(source: SpeechSource) -> Part:
  if source.centres is None and not (source.path / CENTRES).exists():
    raise UserError("no centres", where=source.path, rule="units are centres of frames", remedy="give --centres FILE")
  centres, tensors = read_centres(source.centres or source.path / CENTRES), Folder(source.path)
  names = hubert_card.find_names(tensors, where=source.path)
  config = _own_config(source.path, "kmeans") or dataclasses.replace(
    SPEECH_GPT_TOKENIZER,
    hubert=_hubert_config(source.path, tensors),
    layer=source.layer,
    num_classes=len(centres),
  )
  # Half-precision files are read wide: centres are float32, and nearest ones must not change.
  wide = {one: np.asarray(tensors[one], np.float32) for one in tensors}
  return Part(config=config, leaves=import_kmeans_tokenizer(config, wide, names=names, centres=centres))


def _write_kmeans(part: Part, folder: Path, scheme: str) -> None:
  leaves = {path.removeprefix("hubert."): leaf for path, leaf in part.leaves.items() if path.startswith("hubert.")}
  _write_hubert(Part(config=part.config.hubert, leaves=leaves), folder, scheme)
  write_centres(folder / CENTRES, np.asarray(part.leaves["centres"]))
  write_json(folder / OWN_CONFIG, {"kmeans": to_json(part.config)})


def _read_whisper(source: SpeechSource) -> Part:
  with values_of(source.path / _CONFIG):
    config = whisper.read_config(read_json(source.path / _CONFIG), where=source.path)
  tensors = whisper.encoder_tensors(Folder(source.path))
  return Part(config=config, leaves=import_leaves(whisper.whisper_rules(), tensors, shapes=_shapes(config)))


def _write_whisper(part: Part, folder: Path, scheme: str) -> None:
  del scheme
  rules = prefixed(whisper.whisper_rules(), theirs=whisper.WHOLE_PREFIX)
  write_folder(folder, export_tensors(rules, part.leaves).items())
  write_json(folder / _CONFIG, whisper.write_config(part.config))


def _own_config(path: Path, name: str) -> Any:
  """Returns our config of a part from the file beside the weights, None if there is none."""
  own = (path if path.is_dir() else path.parent) / OWN_CONFIG
  held = read_json(own) if own.exists() else {}
  if name not in held:
    return None
  with values_of(own):
    config = from_json(held[name])
  expected = UnitToSpeechConfig if name == _SPEAKING else FORMATS[name].config
  if not isinstance(config, expected):
    raise UserError(
      f"a {type(config).__name__} under {name!r}",
      where=own,
      rule=f"the file holds a {expected.__name__} there",
      remedy="copy the folder again, or delete the file if the original states its sizes",
    )
  return config


def _abstract(config: Any) -> Any:
  return jax.eval_shape(lambda: config.make(key=jax.random.key(0)))


def _shapes(config: Any) -> dict[str, tuple[int, ...]]:
  return {path: tuple(leaf.shape) for path, leaf in trees.flatten(_abstract(config)).items()}


def _arrays(leaves: Leaves) -> dict[str, np.ndarray]:
  return {path: np.asarray(leaf) for path, leaf in leaves.items()}


def _model(part: Part) -> Any:
  return trees.unflatten(_abstract(part.config), part.leaves)


FORMATS = {
  _HEARING: Format(config=SpeechToUnitConfig, read=_read_hearing, write=_write_hearing),
  _SPEAKING: Format(config=(UnitVoiceConfig, UnitToSpeechConfig), read=_read_speaking, write=_write_speaking),
  "unit-hifigan": Format(
    config=UnitHiFiGANConfig,
    read=_read_unit_hifigan,
    write=lambda part, folder, _: write_unit_hifigan(_model(part), folder),
  ),
  "snac": Format(config=SNACConfig, read=_read_snac, write=lambda part, folder, _: write_snac(_model(part), folder)),
  "hubert": Format(config=HubertConfig, read=_read_hubert, write=_write_hubert),
  "kmeans": Format(config=KMeansTokenizerConfig, read=_read_kmeans, write=_write_kmeans),
  "whisper": Format(config=WhisperConfig, read=_read_whisper, write=_write_whisper),
}
