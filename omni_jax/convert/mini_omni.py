"""Mini-Omni's folder, both ways: `lit_model.pth` and `model_config.yaml` of gpt-omni/mini-omni (litgpt's names).

Their one table is our text rows followed by our code rows, stored a second time as `lm_head` even where it is tied
(694,294,400 values in 198 tensors). Queries, keys and values are one matrix, head group by head group. The encoder of
speech is not in the file; it comes from a Whisper (`convert.whisper`). Mini-Omni2's file has an adapter for images
beside it, whose encoder is a CLIP (`sight_rules`).
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from omni_jax.convert.language import without_stored_head
from omni_jax.convert.table import Rule, export_tensors, import_leaves, prefixed
from omni_jax.convert.tensors import Held, Tensors
from omni_jax.convert.torch_files import in_numpy, in_torch, read_torch, write_torch
from omni_jax.convert.vision import CLIP_NAMES, fixed_vision_rules
from omni_jax.convert.whisper import MINI_OMNI_ADAPTER_RULES
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.gated_adapter import GatedAdapterConfig
from omni_jax.models.mini_omni import MiniOmni, MiniOmniConfig
from omni_jax.models.sight import SightConfig
from omni_jax.tokens.mini_omni import MiniOmniLayout

WEIGHTS, CONFIG = "lit_model.pth", "model_config.yaml"
TABLE, HEAD = "transformer.wte.weight", "lm_head.weight"
_TRANSPOSED = "outputs inputs -> inputs outputs"
_ENCODERS = ("hearing.", "seeing.")  # have files of their own

# What else their config could ask for, and the only answer that this model gives.
_FIXED = {
  "scale_embeddings": False,
  "rotary_percentage": 1.0,
  "parallel_residual": False,
  "bias": False,
  "lm_head_bias": False,
  "shared_attention_norm": False,
  "norm_class_name": "RMSNorm",
  "mlp_class_name": "LLaMAMLP",
  "rope_condense_ratio": 1,
  "asr_adapter": "llamamlp",
}
_SPARE = 64  # entries of each table behind its content (inference.py)
_SIZES = ("n_layer", "n_head", "n_embd", "intermediate_size", "rope_base", "norm_eps")


def mini_omni_rules(config: MiniOmniConfig) -> list[Rule]:
  """Returns the table of a model without its encoder of speech."""
  decoder = config.decoder
  rules = [
    Rule(TABLE, ("decoder.embed.text", "decoder.embed.extra")),
    Rule("transformer.ln_f.weight", ("decoder.norm.scale",)),
    *_block_rules("transformer.h.{layer}", "decoder.blocks", decoder),
    *prefixed(MINI_OMNI_ADAPTER_RULES, ours="adapter."),
  ]
  if config.seeing is not None:
    rules += [
      dataclasses.replace(rule, theirs=rule.theirs.replace("whisper_", "vision_"))
      for rule in prefixed(MINI_OMNI_ADAPTER_RULES, ours="vision_adapter.")
    ]
  if not decoder.tied:
    rules.append(Rule(HEAD, ("decoder.head.text", "decoder.head.extra")))
  if config.speaker_depth:
    rules += _block_rules("transformer.post_adapter.{layer}", "speaker.blocks", decoder)
    rules.append(Rule("transformer.post_adapter_audio_ln.weight", ("speaker.norm.scale",)))
    rules.append(Rule("transformer.post_adapter_audio_lm_head.weight", ("speaker.embed.text",)))
  return rules


def sight_rules(config: SightConfig) -> list[Rule]:
  """Returns the table of transformers' `CLIPVisionModelWithProjection`."""
  tower = fixed_vision_rules(config.tower, CLIP_NAMES)
  projection = Rule("visual_projection.weight", ("projection.weight",), _TRANSPOSED)
  return [*prefixed(tower, theirs="vision_model.", ours="tower."), projection]


def export_mini_omni(model: MiniOmni) -> dict[str, np.ndarray]:
  """Returns their tensors of a model; a tied head is the table once more."""
  leaves = {path: leaf for path, leaf in trees.flatten(model).items() if not path.startswith(_ENCODERS)}
  tensors = export_tensors(mini_omni_rules(model.config), leaves)
  return tensors | ({HEAD: tensors[TABLE]} if model.config.decoder.tied else {})


def import_mini_omni(config: MiniOmniConfig, tensors: Tensors) -> dict[str, jax.Array]:
  """Returns the leaves, without an encoder of speech, of their tensors.

  Raises:
    UserError: they do not fit the config; where it ties the tables, also if the two that are stored differ. (The
      original then keeps `transformer.wte.weight`, the second that it reads.)
  """
  abstract = jax.eval_shape(lambda: dataclasses.replace(config, hearing=None).make(key=jax.random.key(0)))
  leaves = trees.flatten(abstract).items()
  shapes = {path: tuple(leaf.shape) for path, leaf in leaves if not path.startswith(_ENCODERS)}
  own = without_stored_head(tensors, head=HEAD, table=TABLE) if config.decoder.tied else tensors
  return import_leaves(mini_omni_rules(config), own, shapes=shapes)


def read_mini_omni(folder: Path) -> MiniOmni:
  """Returns the model of a folder with their two files, without an encoder of speech.

  Raises:
    UserError: a file is missing, damaged, or of another model.
  """
  config = read_config(_read_yaml(folder / CONFIG), where=folder / CONFIG)
  tensors = Held(in_numpy(read_torch(folder / WEIGHTS), where=folder / WEIGHTS))
  tensors.origin = folder / WEIGHTS
  leaves = import_mini_omni(config, tensors)
  return trees.unflatten(jax.eval_shape(lambda: config.make(key=jax.random.key(0))), leaves)


def write_mini_omni(model: MiniOmni, folder: Path) -> None:
  """Writes the two files that the original's loader reads; its encoder of speech is a Whisper of its own."""
  import yaml

  write_torch(folder / WEIGHTS, in_torch(export_mini_omni(model)))
  write_whole(folder / CONFIG, yaml.safe_dump(write_config(model.config), sort_keys=True))


def read_config(values: dict[str, Any], *, where: object = CONFIG) -> MiniOmniConfig:
  """Returns our config of the fields of theirs.

  Raises:
    UserError: a size is missing, or the model has parts that this one has not.
  """
  missing = [name for name in _SIZES if name not in values]
  other = [f"{name} {values[name]!r}" for name, only in _FIXED.items() if values.get(name, only) != only]
  if missing or other:
    raise UserError(
      "; ".join([*([f"no {', '.join(missing)}"] if missing else []), *other]),
      where=where,
      rule="a config of Mini-Omni: " + ", ".join(f"{name} {only!r}" for name, only in _FIXED.items()),
      remedy="take the model_config.yaml of gpt-omni/mini-omni",
    )
  layout = _layout(values)
  heads, width = values["n_head"], values["n_embd"]
  decoder = DecoderConfig(
    vocab_size=layout.text_size,
    extra_vocab_size=layout.audio_size,
    width=width,
    depth=values["n_layer"],
    num_heads=heads,
    num_kv_heads=values.get("n_query_groups") or heads,
    head_dim=values.get("head_size") or width // heads,
    mlp_dim=values["intermediate_size"],
    rope_theta=float(values["rope_base"]),
    norm_eps=float(values["norm_eps"]),
    qkv_bias=bool(values.get("add_qkv_bias", False)),
    tied=bool(values.get("tie_word_embeddings", False)),
  )
  adapter = GatedAdapterConfig(
    inputs=values.get("whisper_adapter_dim", 768), mlp_dim=values["intermediate_size"], outputs=width
  )
  speaker = values.get("post_adapter_layers", 6) if values.get("post_adapter") else 0
  return MiniOmniConfig(layout=layout, decoder=decoder, adapter=adapter, speaker_depth=speaker)


def write_config(config: MiniOmniConfig) -> dict[str, Any]:
  """Returns the fields of their config; `read_config` gives ours back, without the encoder of speech.

  Raises:
    UserError: the layout is one that their code cannot have.
  """
  decoder, layout = config.decoder, config.layout
  values = {
    **_FIXED,
    "n_layer": decoder.depth,
    "n_head": decoder.num_heads,
    "n_query_groups": decoder.num_kv_heads,
    "head_size": decoder.head_dim,
    "n_embd": decoder.width,
    "intermediate_size": decoder.mlp_dim,
    "rope_base": int(decoder.rope_theta),
    "norm_eps": decoder.norm_eps,
    "add_qkv_bias": decoder.qkv_bias,
    "tie_word_embeddings": decoder.tied,
    "block_size": 2048,
    "padded_vocab_size": layout.text_size + layout.audio_size,
    "text_vocab_size": layout.text_size,
    "audio_vocab_size": layout.codebook_size,
    "cat_audio_vocab_size": layout.audio_size,
    "whisper_adapter_dim": config.adapter.inputs,
    "post_adapter": bool(config.speaker_depth),
    "post_adapter_layers": config.speaker_depth or 6,
  }
  if _layout(values) != layout:
    raise UserError(
      f"{layout}",
      where="export of a Mini-Omni",
      rule=f"in their code each table has {_SPARE} entries behind its content, and text is one column ahead",
      remedy="train with such a layout",
    )
  return values


def _layout(values: dict[str, Any]) -> MiniOmniLayout:
  """Returns the layout of their sizes."""
  text, codes = values.get("text_vocab_size", 152_000), values.get("audio_vocab_size", 4160)
  layers, rest = divmod(values.get("cat_audio_vocab_size", 7 * codes), codes)
  total = values.get("padded_vocab_size", text + layers * codes)
  if rest or total != text + layers * codes:
    raise UserError(
      f"{total} rows, {text} of text and {values.get('cat_audio_vocab_size')} of codes",
      where=CONFIG,
      rule=f"text and whole layers of {codes} codes make all rows",
      remedy="take the model_config.yaml of gpt-omni/mini-omni",
    )
  return MiniOmniLayout(
    num_pieces=text - _SPARE, text_size=text, num_codes=codes - _SPARE, codebook_size=codes, num_layers=layers
  )


def _block_rules(theirs: str, ours: str, decoder: DecoderConfig) -> list[Rule]:
  fused = tuple(f"{ours}.attention.{name}" for name in ("query", "key", "value"))
  groups = decoder.num_kv_heads
  rules = [
    Rule(f"{theirs}.norm_1.weight", (f"{ours}.attention_norm.scale",)),
    Rule(f"{theirs}.norm_2.weight", (f"{ours}.feed_forward_norm.scale",)),
    Rule(f"{theirs}.attn.attn.weight", tuple(f"{part}.weight" for part in fused), _TRANSPOSED, groups=groups),
    Rule(f"{theirs}.attn.proj.weight", (f"{ours}.attention.output.weight",), _TRANSPOSED),
  ]
  if decoder.qkv_bias:
    rules.append(Rule(f"{theirs}.attn.attn.bias", tuple(f"{part}.bias" for part in fused), groups=groups))
  for name, own in (("fc_1", "gate"), ("fc_2", "up"), ("proj", "down")):
    rules.append(Rule(f"{theirs}.mlp.{name}.weight", (f"{ours}.feed_forward.{own}.weight",), _TRANSPOSED))
  return rules


def _read_yaml(path: Path) -> dict[str, Any]:
  import yaml

  try:
    values = yaml.safe_load(path.read_text())
    if not isinstance(values, dict):
      raise ValueError("no fields")
  except (OSError, ValueError, yaml.YAMLError) as error:
    raise UserError(
      f"cannot read {path.name}: {error}",
      where=path.parent,
      rule=f"a folder of Mini-Omni holds {WEIGHTS} and {CONFIG}",
      remedy="copy the folder again",
    ) from error
  return values
