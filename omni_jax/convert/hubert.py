"""HuBERT under the names of transformers' `HubertModel` and of fairseq's checkpoints.

The weight norm of the positional convolution is folded on the way in: tap k of it is `g[k] v[k] / |v[k]|`. On the way
out `v` is the weight and `g` its length, which is the same function, and comes back bit for bit.

fairseq's file is a pickle with its own classes in it, which is not read here: in an environment that has fairseq,
`safetensors.torch.save_file(torch.load(path)["model"], "hubert.safetensors")` writes what this table reads.
"""

import enum
from collections.abc import Mapping

import jax
import numpy as np

from omni_jax.convert.table import Rule, export_tensors, import_leaves, prefixed
from omni_jax.convert.tensors import Held, Tensors, Without, as_tensors
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.speech.hubert import HubertConfig
from omni_jax.speech.kmeans_tokenizer import KMeansTokenizerConfig

_TRANSPOSED = "outputs inputs -> inputs outputs"
_CONVOLUTION = "outputs inputs taps -> taps inputs outputs"
_FOLDED = "folded positions"
_CENTRES = "centres of k-means"

# Of a fairseq checkpoint, what masked prediction needs and features do not.
FAIRSEQ_TRAINING_NAMES = ("final_proj.weight", "final_proj.bias", "label_embs_concat")


class HubertNames(enum.Enum):
  """Whose names a file has; the value holds the names of the length and the direction of the positions' weight."""

  TRANSFORMERS = (
    "encoder.pos_conv_embed.conv.parametrizations.weight.original0",
    "encoder.pos_conv_embed.conv.parametrizations.weight.original1",
  )
  TRANSFORMERS_BEFORE_5 = ("encoder.pos_conv_embed.conv.weight_g", "encoder.pos_conv_embed.conv.weight_v")
  FAIRSEQ = ("encoder.pos_conv.0.weight_g", "encoder.pos_conv.0.weight_v")


def import_hubert_tensors(tensors: Mapping[str, np.ndarray], names: HubertNames) -> Tensors:
  """Returns tensors that `hubert_rules` reads: the weight norm folded, fairseq's training head left out.

  Raises:
    UserError: one of the two tensors of the weight norm is missing, or their shapes do not belong together.
  """
  given = as_tensors(tensors)
  length, direction = names.value
  missing = [name for name in (length, direction) if name not in given]
  if missing:
    raise UserError(
      f"no {' and no '.join(missing)}",
      where=given.origin,
      rule=f"a file of {names.name.lower()} has the positional convolution as {length} and {direction}",
      remedy="choose the names that the file has, or check that it holds a HuBERT",
    )
  left_out = (length, direction) + (FAIRSEQ_TRAINING_NAMES if names is HubertNames.FAIRSEQ else ())
  rest = Without(given, left_out)
  folded = Held({**rest, _FOLDED: fold_taps(given[length], given[direction])})
  folded.origin = given.origin
  return folded


def export_hubert_tensors(
  config: HubertConfig, leaves: Mapping[str, np.ndarray], names: HubertNames
) -> dict[str, np.ndarray]:
  """Returns all tensors of the file by name, from our leaves by dotted path."""
  tensors = export_tensors(hubert_rules(config, names), leaves)
  weight = tensors.pop(_FOLDED)
  length, direction = names.value
  return {**tensors, length: _lengths(weight).astype(weight.dtype), direction: weight}


def import_kmeans_tokenizer(
  config: KMeansTokenizerConfig, tensors: Mapping[str, np.ndarray], *, names: HubertNames, centres: np.ndarray
) -> dict[str, jax.Array]:
  """Returns the leaves of a k-means tokenizer by dotted path, from the tensors of its HuBERT and its centres.

  Args:
    config: of the tokenizer.
    tensors: of the HuBERT, by their names.
    names: whose names these are.
    centres: [num_classes, width], see `speech.kmeans.read_centres`.

  Raises:
    UserError: anything missing, left over, of another shape or not finite; all are listed.
  """
  rules = [*prefixed(hubert_rules(config.hubert, names), ours="hubert."), Rule(_CENTRES, ("centres",))]
  given = import_hubert_tensors(tensors, names)
  joined = Held({**given, _CENTRES: centres})
  joined.origin = given.origin
  abstract = jax.eval_shape(lambda: config.make(key=jax.random.key(0)))
  return import_leaves(rules, joined, shapes={path: leaf.shape for path, leaf in trees.flatten(abstract).items()})


def fold_taps(length: np.ndarray, direction: np.ndarray) -> np.ndarray:
  """Returns the weight [outputs, inputs, taps] of a convolution with a weight norm for each tap.

  A direction that has its length already is the weight itself, so that a file of ours comes back bit for bit.

  Raises:
    UserError: there is not one length for each tap.
  """
  if length.shape != (1, 1, direction.shape[-1]):
    raise UserError(
      f"lengths of shape {length.shape} for directions of shape {direction.shape}",
      where="positional convolution",
      rule="a weight norm over the taps: one length for each",
      remedy="check that the file holds a HuBERT",
    )
  own = _lengths(direction)
  factor = np.where(own.astype(length.dtype) == length, 1.0, length.astype(np.float64) / np.maximum(own, 1e-300))
  return (factor * direction.astype(np.float64)).astype(direction.dtype)


def hubert_rules(config: HubertConfig, names: HubertNames) -> list[Rule]:
  """Returns the table of a HuBERT whose weight norm is folded (`import_hubert_tensors`)."""
  fairseq = names is HubertNames.FAIRSEQ
  sizes = (("group", config.position_groups),)
  positions = "encoder.pos_conv.0" if fairseq else "encoder.pos_conv_embed.conv"
  rules = [
    *_stem_rules(config, fairseq=fairseq),
    *_norm("layer_norm" if fairseq else "feature_projection.layer_norm", "stem_norm"),
    *_linear("post_extract_proj" if fairseq else "feature_projection.projection", "projection"),
    Rule("mask_emb" if fairseq else "masked_spec_embed", ("mask_vector",), "width -> 1 width"),
    Rule(_FOLDED, ("positions.weight",), "(group outputs) inputs taps -> taps inputs group outputs", sizes),
    Rule(f"{positions}.bias", ("positions.bias",)),
    *_norm("encoder.layer_norm", "norm"),
  ]
  layer = "encoder.layers.{layer}"
  attention = f"{layer}.self_attn" if fairseq else f"{layer}.attention"
  up, down = ("fc1", "fc2") if fairseq else ("feed_forward.intermediate_dense", "feed_forward.output_dense")
  for theirs, ours in (("q", "query"), ("k", "key"), ("v", "value"), ("out", "output")):
    rules += _linear(f"{attention}.{theirs}_proj", f"blocks.attention.{ours}")
  rules += _norm(f"{layer}.self_attn_layer_norm" if fairseq else f"{layer}.layer_norm", "blocks.attention_norm")
  rules += _linear(f"{layer}.{up}", "blocks.feed_forward.up")
  rules += _linear(f"{layer}.{down}", "blocks.feed_forward.down")
  return rules + _norm(f"{layer}.final_layer_norm", "blocks.feed_forward_norm")


def _stem_rules(config: HubertConfig, *, fairseq: bool) -> list[Rule]:
  rules = []
  for index in range(len(config.stem)):
    theirs, ours = f"feature_extractor.conv_layers.{index}", f"stem.{index}"
    convolution = f"{theirs}.0" if fairseq else f"{theirs}.conv"
    rules.append(Rule(f"{convolution}.weight", (f"{ours}.convolution.weight",), _CONVOLUTION))
    if config.stem_bias:
      rules.append(Rule(f"{convolution}.bias", (f"{ours}.convolution.bias",)))
    # fairseq's norm over channels stands between two transpositions, its norm over time does not.
    norm = f"{theirs}.2.1" if config.stem_norm_each else f"{theirs}.2"
    if config.stem_norm_each or index == 0:
      rules += _norm(norm if fairseq else f"{theirs}.layer_norm", f"{ours}.norm")
  return rules


def _linear(theirs: str, ours: str) -> list[Rule]:
  return [Rule(f"{theirs}.weight", (f"{ours}.weight",), _TRANSPOSED), Rule(f"{theirs}.bias", (f"{ours}.bias",))]


def _norm(theirs: str, ours: str) -> list[Rule]:
  return [Rule(f"{theirs}.weight", (f"{ours}.scale",)), Rule(f"{theirs}.bias", (f"{ours}.bias",))]


def _lengths(weight: np.ndarray) -> np.ndarray:
  return np.sqrt(np.square(weight.astype(np.float64)).sum(axis=(0, 1), keepdims=True))
