"""EMOVA's checkpoints (github.com/emova-ollm/EMOVA): decoder, image tower and projector in one file, two key schemes.

    origin   model.layers.0...               model.vision_tower.vision_tower.blocks.0...  model.mm_projector.0.weight
    HF       language_model.model.layers.0...  vision_tower.blocks.0...                   mm_projector.0.weight

The prefixes of the HF scheme are known from the size of a released index only, the projector's is not known at all. So
an import looks for the prefixes (`find_layout`): each part has names that end alike in every scheme. An export writes
the scheme it is told.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from omni_jax.convert.language import HEAD, TABLE, language_rules, without_stored_head
from omni_jax.convert.language_card import config_from_card
from omni_jax.convert.table import Rule, import_leaves, prefixed, tensor_shapes
from omni_jax.convert.tensors import as_tensors
from omni_jax.convert.vision import projector_rules, tower_rules
from omni_jax.core import sharding, trees
from omni_jax.core.errors import UserError
from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.emova import EmovaConfig

_BODY = "model."  # what stock decoders put before all names but the head's


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
  """What stands before the names of each part.

  Attributes:
    body: before `embed_tokens.weight`, `layers.0...` and `norm.weight`.
    head: before `lm_head.weight`.
    vision: before the image tower's own names.
    projector: before `0.weight` of a two-layer network, or `mlp.0.weight`.
  """

  body: str
  head: str
  vision: str
  projector: str


ORIGIN = Layout(body="model.", head="", vision="model.vision_tower.vision_tower.", projector="model.mm_projector.")
# EMOVA's wrapper of UNIT has a norm of its own beside the tower.
UNIT_ORIGIN = dataclasses.replace(ORIGIN, vision="model.vision_tower.")
HF = Layout(body="language_model.model.", head="language_model.", vision="vision_tower.", projector="mm_projector.")


def emova_rules(config: EmovaConfig, layout: Layout = ORIGIN) -> list[Rule]:
  """Returns the table of a whole model under the prefixes of a key scheme."""
  parts = _parts(config)
  return [rule for part, rules in parts.items() for rule in prefixed(rules, theirs=getattr(layout, part))]


def origin_layout(config: EmovaConfig) -> Layout:
  """Returns the prefixes of the origin format; UNIT's wrapper is one level higher than the others."""
  first = tower_rules(config.vision)[0].theirs
  return UNIT_ORIGIN if first.startswith("vision_tower.") else ORIGIN


def emova_shapes(config: EmovaConfig) -> dict[str, tuple[int, ...]]:
  """Returns the shape of every leaf of a model by dotted path; nothing is allocated."""
  return {path: leaf.shape for path, leaf in trees.flatten(_abstract(config)).items()}


def find_layout(config: EmovaConfig, names: Iterable[str]) -> Layout:
  """Returns the key scheme of a file that holds tensors of these names.

  A part's prefix is the one under which most of its names exist, looked for after the names of the parts before it are
  taken away (the projector's `0.weight` ends like one of the tower's). A part of which nothing is found keeps the
  prefix of the origin format, and the import then lists what is missing.

  Raises:
    UserError: a part fits under two prefixes alike.
  """
  left, shapes, found = set(names), emova_shapes(config), {}
  for part, rules in _parts(config).items():
    own = list(tensor_shapes(rules, shapes={path: shapes[path] for rule in rules for path in rule.ours})) or [HEAD]
    found[part] = _prefix(own, left, default=getattr(ORIGIN, part), part=part)
    left -= {found[part] + name for name in own}
  return Layout(**found)


def import_emova(
  config: EmovaConfig, tensors: Mapping[str, np.ndarray], *, mesh: jax.sharding.Mesh | None = None
) -> dict[str, jax.Array]:
  """Returns our leaves by dotted path from the tensors of a checkpoint in either key scheme.

  Args:
    config: of the model.
    tensors: by their names; of a folder one is read at a time.
    mesh: over which each leaf is split; one device by default.

  Raises:
    UserError: names, shapes or dtypes do not fit, weights are not finite, or the model is tied and the stored head is
      not its table.
  """
  layout, given = find_layout(config, tensors), as_tensors(tensors)
  if config.decoder.tied:
    table = layout.body + TABLE.removeprefix(_BODY)
    given = without_stored_head(given, head=layout.head + HEAD, table=table)
  places = sharding.places(_abstract(config), mesh)
  return import_leaves(emova_rules(config, layout), given, shapes=emova_shapes(config), places=places)


def decoder_from_card(card: Mapping[str, Any], *, text_rows: int) -> DecoderConfig:
  """Returns the decoder's config from EMOVA's config.json, in either format, or from that of a stock decoder.

  Args:
    card: the content of the file.
    text_rows: rows of the text table; the rows behind them (units, unused ones) are the extra table. 151,665 for
      Qwen2.5, as its tokenizer has it before units are added.

  Raises:
    UserError: another architecture, a field missing, or fewer rows than `text_rows`.
  """
  text = dict(card)
  if card.get("model_type") == "emova":
    text = {"tie_word_embeddings": card.get("tie_word_embeddings", False), **card.get("text_config", {})}
  rows = text.get("vocab_size", text_rows)
  if rows < text_rows:
    raise UserError(
      f"vocab_size {rows}",
      where="config.json",
      rule=f"the vocabulary holds at least the tokenizer's {text_rows} ids",
      remedy="give the tokenizer that belongs to the file",
    )
  return config_from_card(text, extra_vocab_size=rows - text_rows)


def _abstract(config: EmovaConfig) -> Any:
  return jax.eval_shape(lambda: config.make(key=jax.random.key(0)))


def _parts(config: EmovaConfig) -> dict[str, list[Rule]]:
  """Returns the rules of each part of a Layout, their names without its prefix; in the order of `find_layout`."""
  decoder = prefixed(language_rules(config.decoder), ours="decoder.")
  body = [rule for rule in decoder if rule.theirs.startswith(_BODY)]
  if config.newline:
    body.append(Rule(f"{_BODY}image_newline", ("newline",), "width -> 1 width"))
  return {
    "body": [dataclasses.replace(rule, theirs=rule.theirs.removeprefix(_BODY)) for rule in body],
    "head": [rule for rule in decoder if rule not in body],
    "vision": prefixed(tower_rules(config.vision), ours="vision."),
    "projector": prefixed(projector_rules(config.projector), ours="projector."),
  }


def _prefix(own: Sequence[str], names: set[str], *, default: str, part: str) -> str:
  """Returns the prefix under which most of `own` are among `names`."""
  counts: dict[str, int] = {}
  for name in own[:64]:  # more than enough to tell prefixes apart
    for given in names:
      prefix = given.removesuffix(name)
      if prefix != given and (not prefix or prefix.endswith(".")):
        counts[prefix] = counts.get(prefix, 0) + 1
  if not counts:
    return default
  best = [prefix for prefix, count in counts.items() if count == max(counts.values())]
  if len(best) > 1:
    raise UserError(
      f"the {part} fits under {' and under '.join(map(repr, sorted(best)))}",
      where="names of the tensors",
      rule="each part of the model is in the file once",
      remedy="remove one of the copies",
    )
  return best[0]
