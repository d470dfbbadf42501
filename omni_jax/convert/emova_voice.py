"""EMOVA's Hugging Face speech tokenizer (`emova_speech_tokenizer_hf`): the half that speaks, with its styles.

    encoder.*                 speech to units, left alone here
    decoder.*                 units to speech
    style_embedding.weight    one row for each condition; `u2s_style2idx` of config.json says which

Names and fields are those of public copies of its modeling file; the file of weights itself could not be seen.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from omni_jax.convert.folders import read_json
from omni_jax.convert.shards import Folder
from omni_jax.convert.table import Rule, export_stream, import_leaves, prefixed
from omni_jax.convert.tensors import Tensors, Without
from omni_jax.convert.unit_to_speech import EMOVA_NAMES, spelled_as, unit_to_speech_rules
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.speech.conditions import Centroids
from omni_jax.speech.unit_to_speech import EMOVA_UNIT_TO_SPEECH, UnitToSpeechConfig
from omni_jax.speech.unit_voice import Delivery, UnitVoice

_OTHER_HALF, _MODEL, _STYLES, _INDEX = "encoder.", "decoder.", "style_embedding.weight", "u2s_style2idx"
_OUR_STYLES = "styles"


def import_emova_voice(
  folder: Path, *, config: UnitToSpeechConfig = EMOVA_UNIT_TO_SPEECH, delivery: Delivery | None = None
) -> UnitVoice:
  """Returns the voice of a Hugging Face folder, kernels as they are stored (`nn.weight_norm.fold_model` folds them).

  Raises:
    UserError: the folder is no whole tokenizer, or its index does not fit its table.
  """
  card, given = read_json(folder / "config.json"), Folder(folder)
  places = card.get(_INDEX)
  if not isinstance(places, dict) or not all(type(row) is int for row in places.values()) or _STYLES not in given:
    raise UserError(
      f"no {_INDEX} in config.json, or no {_STYLES}",
      where=folder,
      rule=f"{_INDEX} names the rows of {_STYLES}",
      remedy="take the folder of emova_speech_tokenizer_hf, complete",
    )
  tensors: Tensors = Without(given, [name for name in given if name.startswith(_OTHER_HALF)])
  abstract = jax.eval_shape(lambda: config.make(key=jax.random.key(0)))
  shapes: dict[str, tuple[int, ...]] = {path: leaf.shape for path, leaf in trees.flatten(abstract).items()}
  shapes[_OUR_STYLES] = (given.shape(_STYLES)[0], config.condition)
  rules = _rules(config, tensors)
  leaves = import_leaves(rules, tensors, shapes=shapes)
  styles = np.asarray(leaves.pop(_OUR_STYLES))
  model = trees.unflatten(abstract, leaves)
  return UnitVoice(model, centroids=Centroids.of_release(styles, places), delivery=delivery)


def export_emova_voice(voice: UnitVoice) -> tuple[dict[str, Any], Iterator[tuple[str, np.ndarray]]]:
  """Returns the fields that config.json has for a voice, and its tensors one after another (`shards.write_folder`).

  Raises:
    UserError: the voice has no centroids.
  """
  if voice.centroids is None:
    raise UserError(
      "a voice without styles",
      where="export of a voice",
      rule=f"{_STYLES} has a row for every condition",
      remedy="compute centroids with conditions.Centroids.of_corpus",
    )
  names, vectors = voice.centroids.names, voice.centroids.vectors
  fields = {
    "u2s_num_styles": len(names),
    "u2s_dim_styles": vectors.shape[1],
    _INDEX: {name: row for row, name in enumerate(names)},
  }
  leaves = {path: np.asarray(leaf) for path, leaf in trees.flatten(voice.model).items()} | {_OUR_STYLES: vectors}
  return fields, export_stream(_rules(voice.model.config, ()), leaves)


def _rules(config: UnitToSpeechConfig, tensors: Any) -> list[Rule]:
  rules = unit_to_speech_rules(config, spelled_as(tensors, EMOVA_NAMES))
  return [*prefixed(rules, theirs=_MODEL), Rule(_STYLES, (_OUR_STYLES,))]
