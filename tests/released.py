"""A released language model made on the spot: config.json, safetensors and tokenizer.json, random and tiny."""

import pathlib

import jax

from omni_jax.convert.folders import write_json
from omni_jax.convert.language import export_language
from omni_jax.convert.shards import write_folder
from omni_jax.convert.table import export_stream
from omni_jax.convert.vision import vision_rules
from omni_jax.core import trees
from omni_jax.tokens.hugging_face import HuggingFaceTokenizer
from tests.models.twins import decoder_config, shaken, vision_config
from tests.tokens.trained import train_json

UNUSED = 9  # rows behind the tokenizer's ids, as Qwen2.5 has them


def write_base(folder: pathlib.Path, *, dtype: str = "float32", units: int = 0, **changes) -> None:
  """Writes a folder in the manner of Qwen2.5, its tables a few rows longer than its tokenizer."""
  text = train_json(units=units)
  rows = HuggingFaceTokenizer(text).num_ids + UNUSED
  config = decoder_config(**{"vocab_size": rows, "extra_vocab_size": 0, **changes})
  export_language(_random(config, seed=1), folder, dtype=dtype)
  (folder / "tokenizer.json").write_text(text)


def write_tower(folder: pathlib.Path, *, prefix: str = "") -> None:
  """Writes a Qwen2-VL tower, alone or (with a prefix) beside other tensors."""
  config = vision_config()
  tower = _random(config, seed=2)
  tensors = [(prefix + name, array) for name, array in export_stream(vision_rules(config), trees.flatten(tower))]
  write_folder(folder, tensors + ([("model.norm.weight", tensors[0][1])] if prefix else []))
  names = {"embed_dim": "width", "hidden_size": "out_width", "patch_size": "patch", "spatial_merge_size": "merge"}
  same = {name: name for name in ("depth", "num_heads")} | {"temporal_patch_size": "temporal_patch"}
  card = {theirs: getattr(config, ours) for theirs, ours in {**names, **same}.items()}
  card |= {"model_type": "qwen2_vl", "mlp_ratio": config.mlp_dim / config.width}
  write_json(folder / "config.json", {"model_type": "qwen2_vl", "vision_config": card} if prefix else card)


def _random(config, *, seed: int):
  """Returns a model of the config; compiled as one, because its draws are many small programs otherwise."""
  return jax.jit(lambda key: shaken(config.make(key=key)))(jax.random.key(seed))
