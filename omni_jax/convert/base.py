"""A released language model, and perhaps a released image tower, as one model of this project's vocabulary.

text rows of the base | its rows that no token used, then new rows: units, styles | projector: new
'------------------------- decoder ----------------------------------------------' '- with a tower -'
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from omni_jax.convert.folders import read_json, values_of
from omni_jax.convert.language import NewRows, import_language
from omni_jax.convert.part_cards import vision_from
from omni_jax.convert.shards import Folder
from omni_jax.convert.table import import_leaves
from omni_jax.convert.tensors import Without
from omni_jax.convert.vision import vision_rules
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.models.emova import EmovaConfig
from omni_jax.models.language import NO_IMAGES, LanguageConfig
from omni_jax.models.projectors import ProjectorConfig
from omni_jax.models.vision_encoder import VisionConfig
from omni_jax.tokens.vocabulary import Vocabulary

_FIRST = "patch_embed.proj.weight"  # by which the names of a tower are found among others


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base:
  """What an import gives.

  Attributes:
    config: LanguageConfig, or EmovaConfig with a tower.
    params: parameters by dotted path.
    report: what was read and what is new, a line for each part.
  """

  config: LanguageConfig | EmovaConfig
  params: dict[str, jax.Array]
  report: tuple[str, ...]


def import_base(
  source: Path, *, vocabulary: Vocabulary, draw: str = "mean", seed: int = 0, vision: Path | None = None
) -> Base:
  """Returns the model of a stock folder (Qwen2, Llama) with rows for everything that the vocabulary adds.

  Args:
    source: config.json and safetensors of the language model.
    vocabulary: an extension of its tokenizer.
    draw: of new rows, one of `checkpoint.new_rows.DRAWS`.
    seed: of whatever is new.
    vision: folder of a Qwen2-VL tower, alone or within a model.

  Raises:
    UserError: another architecture, weights that do not fit it, or a vocabulary of another base.
  """
  rows = _stated_rows(source, vocabulary)
  new = NewRows(number=vocabulary.size - rows, draw=draw, seed=seed)
  decoder = import_language(source, extra_vocab_size=vocabulary.extra_size, new=new)
  params = {f"decoder.{path}": leaf for path, leaf in trees.flatten(decoder).items()}
  tables = "one table" if decoder.config.tied else "two tables"
  report = [
    f"decoder: {len(params)} parameters, {_size(params)}; {tables} of {rows} rows and {new.number} new ({draw})"
  ]
  image = vocabulary.controls.get("image", NO_IMAGES)
  if vision is None:
    return Base(config=LanguageConfig(decoder=decoder.config, image_token=image), params=params, report=tuple(report))
  tower_config, tower = import_tower(vision)
  config = EmovaConfig(
    decoder=decoder.config,
    vision=tower_config,
    projector=ProjectorConfig(inputs=tower_config.out_width, outputs=decoder.config.width),
    image_token=image,
  )
  projector = config.projector.make(key=jax.random.fold_in(jax.random.key(seed), len(params)))
  drawn = {f"projector.{path}": leaf for path, leaf in trees.flatten(projector).items()}
  seen = {f"vision.{path}": leaf for path, leaf in tower.items()}
  report += [f"vision: {len(seen)} parameters, {_size(seen)}", f"projector: {len(drawn)} parameters, all new"]
  return Base(config=config, params=params | seen | drawn, report=tuple(report))


def import_tower(folder: Path) -> tuple[VisionConfig, dict[str, jax.Array]]:
  """Returns the config and the parameters of a Qwen2-VL image tower, in a folder of its own or of a whole model.

  Raises:
    UserError: no such tower is in the folder, or its weights do not fit its config.
  """
  card = read_json(folder / "config.json")
  stated = card.get("vision_config") or card
  tensors = Folder(folder)
  prefixes = [name.removesuffix(_FIRST) for name in tensors if name.endswith(_FIRST)]
  if len(prefixes) != 1 or not str(stated.get("model_type", "qwen2_vl")).startswith("qwen2_vl"):
    raise UserError(
      f"{len(prefixes)} towers of the kind {stated.get('model_type')!r}",
      where=folder,
      rule=f"the folder has one Qwen2-VL tower, whose names are found by {_FIRST}",
      remedy="give the folder of the tower, or of one model that has it",
    )
  with values_of(folder / "config.json"):
    config = vision_from({"type": "Qwen2VisionTower", **stated})
  rules = [dataclasses.replace(rule, theirs=prefixes[0] + rule.theirs) for rule in vision_rules(config)]
  # The rest of a whole model is another's; a tower's own folder is checked to the last name.
  others = [name for name in tensors if not name.startswith(prefixes[0])]
  abstract: Any = jax.eval_shape(lambda: config.make(key=jax.random.key(0)))
  shapes = {path: leaf.shape for path, leaf in trees.flatten(abstract).items()}
  return config, import_leaves(rules, Without(tensors, others), shapes=shapes)


def _stated_rows(source: Path, vocabulary: Vocabulary) -> int:
  """Returns the rows of the base's tables, which must hold its tokenizer and fit into the vocabulary."""
  rows = read_json(source / "config.json").get("vocab_size", 0)
  if not isinstance(rows, int) or not vocabulary.text_size <= rows <= vocabulary.size:
    raise UserError(
      f"vocab_size {rows}",
      where=source / "config.json",
      rule=f"the vocabulary extends a tokenizer of {vocabulary.text_size} ids to {vocabulary.size}",
      remedy="run `omni vocabulary --base` on this folder, in a working folder of its own",
    )
  return rows


def _size(params: dict[str, jax.Array]) -> str:
  return f"{sum(leaf.size for leaf in params.values()) / 1e6:.3f} M, {next(iter(params.values())).dtype}"
