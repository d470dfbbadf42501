"""Released vocoders as files: fairseq's unit HiFi-GAN and the `snac` package's codec, read and written.

Both keep a `config.json` beside a file of torch; unit HiFi-GAN's holds its tensors under `generator`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from omni_jax.convert import snac, unit_hifigan
from omni_jax.convert.folders import read_json, values_of, write_json
from omni_jax.convert.table import Rule, export_tensors, import_leaves
from omni_jax.convert.torch_files import in_numpy, in_torch, read_torch, write_torch
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.speech.snac import SNAC
from omni_jax.speech.unit_hifigan import UnitHiFiGAN

CONFIG, SNAC_WEIGHTS, UNIT_WEIGHTS = "config.json", "pytorch_model.bin", "g_00000000"


def read_unit_hifigan(checkpoint: Path, *, config: Path | None = None) -> UnitHiFiGAN:
  """Returns the vocoder of a fairseq checkpoint, such as `g_00500000`, and the `config.json` beside it.

  Raises:
    UserError: a file is missing, damaged, or of another model.
  """
  card = config or checkpoint.parent / CONFIG
  with values_of(card):
    made = unit_hifigan.read_config(read_json(card), where=card)
  tensors = read_torch(checkpoint)
  if not isinstance(tensors, Mapping) or unit_hifigan.CHECKPOINT_KEY not in tensors:
    raise UserError(
      f"keys {', '.join(map(str, list(tensors)[:8]))}"
      if isinstance(tensors, Mapping)
      else f"a {type(tensors).__name__}",
      where=checkpoint,
      rule=f"a checkpoint of a generator holds its tensors under {unit_hifigan.CHECKPOINT_KEY!r}",
      remedy="take the file whose name begins with g_",
    )
  return _filled(made, unit_hifigan.unit_hifigan_rules(made), tensors[unit_hifigan.CHECKPOINT_KEY], where=checkpoint)


def write_unit_hifigan(model: UnitHiFiGAN, folder: Path, *, name: str = UNIT_WEIGHTS) -> None:
  """Writes the vocoder as fairseq reads it: `config.json` and a checkpoint."""
  tensors = export_tensors(unit_hifigan.unit_hifigan_rules(model.config), trees.flatten(model))
  write_json(folder / CONFIG, unit_hifigan.write_config(model.config))
  write_torch(folder / name, {unit_hifigan.CHECKPOINT_KEY: in_torch(tensors)})


def read_snac(folder: Path) -> SNAC:
  """Returns the codec of a folder with `config.json` and `pytorch_model.bin`.

  Raises:
    UserError: a file is missing, damaged, or of another model.
  """
  with values_of(folder / CONFIG):
    config = snac.read_config(read_json(folder / CONFIG), where=folder / CONFIG)
  return _filled(config, snac.snac_rules(config), read_torch(folder / SNAC_WEIGHTS), where=folder / SNAC_WEIGHTS)


def write_snac(model: SNAC, folder: Path) -> None:
  """Writes the codec as the `snac` package reads it."""
  tensors = export_tensors(snac.snac_rules(model.config), trees.flatten(model))
  write_json(folder / CONFIG, snac.write_config(model.config))
  write_torch(folder / SNAC_WEIGHTS, in_torch(tensors))


def _filled(config: Any, rules: list[Rule], tensors: Mapping[str, Any], *, where: Path) -> Any:
  model = jax.eval_shape(lambda: config.make(key=jax.random.key(0)))
  shapes = {path: tuple(leaf.shape) for path, leaf in trees.flatten(model).items()}
  return trees.unflatten(model, import_leaves(rules, in_numpy(tensors, where=where), shapes=shapes))
