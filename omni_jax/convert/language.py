"""The decoder as a Hugging Face folder (Qwen2, Llama, DeepSeekMoE): names and whole folders, both ways.

Their one token table is our text rows followed by our extra rows. Their file has no `lm_head` where it is tied.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.checkpoint.new_rows import draw_rows
from omni_jax.convert.folders import read_json, values_of, write_json
from omni_jax.convert.language_card import config_from_card, language_card
from omni_jax.convert.shards import Folder, write_folder
from omni_jax.convert.table import Rule, export_stream, import_leaves
from omni_jax.convert.tensors import Tensors, Without
from omni_jax.core import sharding, trees
from omni_jax.core.errors import UserError
from omni_jax.models.decoder import Decoder, DecoderConfig

_TRANSPOSED = "outputs inputs -> inputs outputs"
HEAD, TABLE = "lm_head.weight", "model.embed_tokens.weight"


def language_rules(config: DecoderConfig) -> list[Rule]:
  """Returns the table of a decoder; paths are relative to it."""
  parts = ("text", "extra") if config.extra_vocab_size else ("text",)
  rules = [
    Rule(TABLE, tuple(f"embed.{part}" for part in parts)),
    Rule("model.norm.weight", ("norm.scale",)),
  ]
  if config.dense_depth:
    rules += _block_rules(config, "dense_blocks", first_layer=0, sparse=False)
  rules += _block_rules(config, "blocks", first_layer=config.dense_depth, sparse=config.experts is not None)
  if not config.tied:
    rules.append(Rule(HEAD, tuple(f"head.{part}" for part in parts)))
  return rules


def _block_rules(config: DecoderConfig, ours: str, *, first_layer: int, sparse: bool) -> list[Rule]:
  """Returns the rows of one stack of blocks, whose first one is their layer `first_layer`."""

  def row(theirs: str, path: str, pattern: str = "... -> ...") -> Rule:
    return Rule(f"model.layers.{{layer}}.{theirs}", (f"{ours}.{path}",), pattern, first_layer=first_layer)

  rules = [
    row("input_layernorm.weight", "attention_norm.scale"),
    row("post_attention_layernorm.weight", "feed_forward_norm.scale"),
  ]
  for theirs, name in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("o_proj", "output")):
    rules.append(row(f"self_attn.{theirs}.weight", f"attention.{name}.weight", _TRANSPOSED))
    if config.qkv_bias and name != "output":
      rules.append(row(f"self_attn.{theirs}.bias", f"attention.{name}.bias"))
  for name in ("gate", "up", "down"):
    if sparse:
      rules.append(row(f"mlp.experts.{{expert}}.{name}_proj.weight", f"feed_forward.{name}", _TRANSPOSED))
      rules.append(row(f"mlp.shared_experts.{name}_proj.weight", f"feed_forward.shared.{name}.weight", _TRANSPOSED))
    else:
      rules.append(row(f"mlp.{name}_proj.weight", f"feed_forward.{name}.weight", _TRANSPOSED))
  if sparse:
    rules.append(row("mlp.gate.weight", "feed_forward.router.weight", _TRANSPOSED))
  return rules


def without_stored_head(tensors: Tensors, *, head: str = HEAD, table: str = TABLE) -> Tensors:
  """Returns the tensors of a tied model without a head that a writer stored beside the table it equals.

  Raises:
    UserError: the head differs from the table, so the model is not tied.
  """
  if head not in tensors or table not in tensors:
    return tensors
  if tensors.shape(head) != tensors.shape(table) or tensors[head].tobytes() != tensors[table].tobytes():
    raise UserError(
      f"{head} differs from {table}",
      where=tensors.origin,
      rule="where config.json says tie_word_embeddings, both are the same table",
      remedy="correct tie_word_embeddings, or copy the file again",
    )
  return Without(tensors, [head])


@dataclasses.dataclass(frozen=True, kw_only=True)
class NewRows:
  """Rows that a base lacks.

  Attributes:
    number: how many, behind the base's own.
    draw: one of `checkpoint.new_rows.DRAWS`.
    seed: of the draw.
  """

  number: int
  draw: str = "mean"
  seed: int = 0


class Grown(Tensors):
  """Tensors whose token tables have new rows; each table's are drawn once, near its own rows."""

  def __init__(self, tensors: Tensors, *, new: NewRows):
    self._tensors, self._new, self.origin = tensors, new, tensors.origin
    self._drawn: dict[str, np.ndarray] = {}

  def __getitem__(self, name: str) -> np.ndarray:
    tensor = self._tensors[name]
    if name not in (TABLE, HEAD):
      return tensor
    if name not in self._drawn:
      key = jax.random.fold_in(jax.random.key(self._new.seed), (TABLE, HEAD).index(name))
      rows = draw_rows(jnp.asarray(tensor), number=self._new.number, key=key, draw=self._new.draw)
      self._drawn[name] = np.asarray(rows)
    return np.concatenate([tensor, self._drawn[name]])

  def __iter__(self) -> Iterator[str]:
    return iter(self._tensors)

  def __len__(self) -> int:
    return len(self._tensors)

  def shape(self, name: str) -> tuple[int, ...]:
    """Returns the shape of a tensor, its new rows counted."""
    rows, *others = self._tensors.shape(name)
    return (rows + (self._new.number if name in (TABLE, HEAD) else 0), *others)

  def dtype(self, name: str) -> np.dtype:
    """Returns the dtype of a tensor."""
    return self._tensors.dtype(name)


def export_language(decoder: Decoder, folder: Path, *, dtype: str = "float32") -> None:
  """Writes `config.json` and `model.safetensors`, which `transformers.AutoModelForCausalLM` loads (without experts).

  Args:
    decoder: the model.
    folder: made if missing.
    dtype: `float32` or `bfloat16` of the written tensors.
  """
  leaves = {path: leaf.astype(dtype_named(dtype)) for path, leaf in trees.flatten(decoder).items()}
  write_folder(folder, export_stream(language_rules(decoder.config), leaves))
  write_json(folder / "config.json", language_card(decoder.config, dtype=dtype))


def import_language(
  folder: Path, *, extra_vocab_size: int, new: NewRows | None = None, mesh: jax.sharding.Mesh | None = None
) -> Decoder:
  """Returns the decoder of a Hugging Face folder, in the dtype of its files.

  Args:
    folder: with config.json and safetensors.
    extra_vocab_size: rows of the extra table: the last ones of the folder, and the new ones.
    new: rows that the folder lacks.
    mesh: over which it is split; one device by default.

  Raises:
    UserError: another architecture, or weights that do not fit it.
  """
  card, tensors = read_json(folder / "config.json"), Folder(folder)
  number = 0 if new is None else new.number
  with values_of(folder / "config.json"):
    stated = config_from_card(card, extra_vocab_size=0)
  config = dataclasses.replace(
    stated, vocab_size=stated.vocab_size + number - extra_vocab_size, extra_vocab_size=extra_vocab_size
  )
  own: Tensors = without_stored_head(tensors) if config.tied else tensors
  tensors = own if new is None else Grown(own, new=new)
  abstract = jax.eval_shape(lambda key: config.make(key=key), jax.random.key(0))
  shapes = {path: leaf.shape for path, leaf in trees.flatten(abstract).items()}
  places = sharding.places(abstract, mesh)
  return trees.unflatten(abstract, import_leaves(language_rules(config), tensors, shapes=shapes, places=places))


def dtype_named(name: str) -> np.dtype:
  """Returns the NumPy dtype `float32` or `bfloat16`."""
  if name not in ("float32", "bfloat16"):
    raise UserError(
      f"unknown dtype {name!r}", where="--dtype", rule="float32 or bfloat16", remedy="choose one of these"
    )
  return np.dtype(jax.numpy.dtype(name))
