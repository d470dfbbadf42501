"""Adapters of the language model in PEFT's format, both ways: `adapter_config.json`, `adapter_model.safetensors`.

Their `lora_A` [rank, inputs] is our `down` transposed, their `lora_B` [outputs, rank] our `up` transposed, one pair for
each layer; names follow from the decoder's own table of conversion (PEFT, utils/save_and_load.py).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from omni_jax.convert.folders import read_json, write_json
from omni_jax.convert.language import language_rules
from omni_jax.convert.table import Rule
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.models.decoder import DecoderConfig
from omni_jax.nn.lora import Adapted

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_SIDES = (("down", "lora_A"), ("up", "lora_B"))


def export_adapters(model: Adapted, folder: Path, *, base: str = "") -> None:
  """Writes a folder that `peft.PeftModel.from_pretrained(base_model, folder)` loads.

  Args:
    model: adapters on a decoder, or on a model that has one.
    folder: made if missing.
    base: name or folder of the base model, to be written into the config.

  Raises:
    UserError: adapters outside the language model, or not the same matrices in every layer.
  """
  from safetensors.numpy import save

  rules = _rules(model)
  tensors: dict[str, np.ndarray] = {}
  for path, matrix in model.matrices().items():
    for layer in range(matrix.down.shape[0]):
      for side, theirs in _SIDES:
        pair = np.asarray(getattr(matrix, side)[layer])
        tensors[f"{_name(rules[path], layer)}.{theirs}.weight"] = np.ascontiguousarray(pair.T)
  folder.mkdir(parents=True, exist_ok=True)
  write_whole(folder / WEIGHTS, save(tensors, {"format": "pt"}))
  targets = sorted({_name(rules[path], 0).rpartition(".")[2] for path in model.matrices()})
  write_json(folder / CONFIG, adapter_card(model, targets=targets, base=base))


def adapter_card(model: Adapted, *, targets: list[str], base: str) -> dict[str, Any]:
  """Returns the content of their adapter_config.json."""
  config = model.adapters
  return {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": base,
    "r": config.rank,
    "lora_alpha": config.alpha,
    "lora_dropout": config.dropout,
    "target_modules": targets,
    "bias": "none",
    "fan_in_fan_out": False,
    "inference_mode": True,
  }


def import_adapters(model: Adapted, folder: Path) -> Adapted:
  """Returns `model` with the pairs of a PEFT folder.

  Args:
    model: with the same targets, rank and alpha.
    folder: holds their config and weights.

  Raises:
    UserError: a file is missing or damaged, another rank or alpha, a tensor missing, left over or of another shape.
  """
  card, config = read_json(folder / CONFIG), model.adapters
  if (card.get("r"), card.get("lora_alpha")) != (config.rank, config.alpha) or card.get("use_rslora"):
    raise UserError(
      f"rank {card.get('r')}, alpha {card.get('lora_alpha')}",
      where=folder / CONFIG,
      rule=f"the model has rank {config.rank} and alpha {config.alpha}, scaled by alpha / rank",
      remedy="make the model with the values of the folder",
    )
  tensors, rules, pairs = _read(folder / WEIGHTS), _rules(model), {}
  expected = {
    f"{_name(rules[path], layer)}.{theirs}.weight": getattr(matrix, side).shape[:0:-1]
    for path, matrix in model.matrices().items()
    for layer in range(matrix.down.shape[0])
    for side, theirs in _SIDES
  }
  trees.check_names(given=set(tensors), expected=set(expected), where=folder / WEIGHTS)
  wrong = [
    f"{name}: {tensors[name].shape}, not {shape}" for name, shape in expected.items() if tensors[name].shape != shape
  ]
  if wrong:
    raise UserError(
      f"{len(wrong)} shapes differ: {'; '.join(wrong[:8])}",
      where=folder / WEIGHTS,
      rule="pairs have the rank and the widths of the model",
      remedy="use the base model that the adapters were trained on",
    )
  for path, matrix in model.matrices().items():
    for side, theirs in _SIDES:
      names = [f"{_name(rules[path], layer)}.{theirs}.weight" for layer in range(matrix.down.shape[0])]
      pairs[f"pairs.{path}.{side}"] = np.stack([tensors[name].T for name in names])
  return trees.unflatten(model, trees.flatten(model) | pairs)


def _rules(model: Adapted) -> dict[str, Rule]:
  """Returns path in the base -> the row of the decoder's table of each matrix that is adapted."""
  own = isinstance(model.config, DecoderConfig)
  rules = language_rules(model.config if own else model.config.decoder)
  known = {rule.ours[0] if own else f"decoder.{rule.ours[0]}": rule for rule in rules if rule.num_leading == 1}
  outside = [path for path in model.matrices() if path not in known]
  if outside:
    raise UserError(
      f"adapters outside the layers of the language model: {', '.join(outside[:5])}",
      where="PEFT export",
      rule="their format is written for the language model alone",
      remedy=r"adapt `decoder\.blocks`, and train other parts in full",
    )
  return known


def _name(rule: Rule, layer: int) -> str:
  return _PREFIX + rule.name((layer,)).removesuffix(".weight")


def _read(path: Path) -> Mapping[str, np.ndarray]:
  from safetensors import SafetensorError
  from safetensors.numpy import load_file

  try:
    return load_file(path)
  except (OSError, SafetensorError) as error:
    raise UserError(
      f"cannot read the adapters: {error}",
      where=path,
      rule=f"a folder of adapters holds {CONFIG} and {WEIGHTS}",
      remedy="copy the folder again",
    ) from error
