"""Whole EMOVA folders: weights in shards, config.json in either format, and what processors need; in and out.

A released folder says its decoder in full, its tower and projector by name; ours are read back exactly, by the config
that lies beside (`omni_jax.json`), which is checked against config.json's own numbers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from omni_jax.convert.emova import HF, decoder_from_card, emova_rules, import_emova, origin_layout
from omni_jax.convert.emova_card import PIXELS, config_of, hf_card, image_card, origin_card
from omni_jax.convert.folders import read_json, values_of, write_json
from omni_jax.convert.part_cards import OWN_CONFIG
from omni_jax.convert.shards import SHARD_BYTES, Folder, write_folder
from omni_jax.convert.table import export_stream
from omni_jax.convert.torch_code import auto_map, write_code
from omni_jax.core.config import from_json, to_json
from omni_jax.core.errors import UserError
from omni_jax.models.emova import EmovaConfig
from omni_jax.models.vision_encoder import VisionConfig

QWEN2_5_TEXT_ROWS = 151_665  # ids of Qwen2.5's tokenizer, before units are added


def export_folder(
  config: EmovaConfig,
  leaves: Mapping[str, Any],
  folder: Path,
  *,
  scheme: str,
  shard_bytes: int = SHARD_BYTES,
  pixels: tuple[int, int] = PIXELS,
) -> dict[str, str]:
  """Writes a model in EMOVA's `origin` or `hf` format and returns tensor -> shard; dtypes stay as they are.

  Args:
    config: of the model.
    leaves: its parameters by dotted path.
    folder: made if missing.
    scheme: which key names and which config.json.
    shard_bytes: most bytes in one file.
    pixels: least and most of an image of native resolution, for their image processors.

  Raises:
    UserError: another scheme, or a model that the scheme cannot say.
  """
  if scheme not in ("origin", "hf"):
    raise UserError(f"scheme {scheme!r}", where="--format", rule="origin or hf", remedy="choose one of these")
  dtype = str(next(iter(leaves.values())).dtype)
  card = (origin_card if scheme == "origin" else hf_card)(config, dtype=dtype, pixels=pixels)
  code = auto_map(card)
  layout = origin_layout(config) if scheme == "origin" else HF
  placed = write_folder(folder, export_stream(emova_rules(config, layout), leaves), shard_bytes=shard_bytes)
  if code:
    write_code(folder)
  write_json(folder / "config.json", card | ({"auto_map": code} if code else {}))
  write_json(folder / OWN_CONFIG, {"model": to_json(config)})
  write_json(folder / "generation_config.json", {"do_sample": False, "max_new_tokens": 4096})
  if isinstance(config.vision, VisionConfig):
    write_json(folder / "preprocessor_config.json", image_card(config.vision, with_code=bool(code), pixels=pixels))
  return placed


def import_folder(
  folder: Path, *, text_rows: int = QWEN2_5_TEXT_ROWS, mesh: jax.sharding.Mesh | None = None
) -> tuple[EmovaConfig, dict[str, jax.Array]]:
  """Returns the config and the parameters of a folder in either format, each array where it is to live.

  Args:
    folder: with config.json and safetensors.
    text_rows: ids of the tokenizer before units were added; the rows behind them become the extra table.
    mesh: over which arrays are split; one device by default.

  Raises:
    UserError: the config is not one of EMOVA's, or the weights do not fit it; everything is told at once.
  """
  tensors = Folder(folder)
  config = read_config(folder, text_rows=text_rows)
  return config, import_emova(config, tensors, mesh=mesh)


def read_config(folder: Path, *, text_rows: int) -> EmovaConfig:
  """Returns the config of a folder.

  Raises:
    UserError: no config.json, another architecture, a tower or projector that it does not state in full, or a config
      of ours beside it that says something else.
  """
  card = read_json(folder / "config.json")
  if (folder / OWN_CONFIG).exists():
    config = _own_config(folder)
    with values_of(folder / "config.json"):
      stated = decoder_from_card(card, text_rows=config.decoder.vocab_size)
    same = ("width", "depth", "num_heads", "num_kv_heads", "mlp_dim", "vocab_size", "extra_vocab_size", "tied")
    wrong = [name for name in same if getattr(stated, name) != getattr(config.decoder, name)]
    if wrong:
      raise UserError(
        f"{OWN_CONFIG} and config.json differ in {', '.join(wrong)}",
        where=folder,
        rule="both describe the same model",
        remedy=f"copy the folder again, or delete {OWN_CONFIG} if config.json was changed on purpose",
      )
    return config
  with values_of(folder / "config.json"):
    return config_of(card, text_rows=text_rows)


def _own_config(folder: Path) -> EmovaConfig:
  held = read_json(folder / OWN_CONFIG)
  with values_of(folder / OWN_CONFIG):
    config = from_json(held["model"]) if "model" in held else None
  if not isinstance(config, EmovaConfig):
    raise UserError(
      "no EmovaConfig under `model`" if config is None else f"a {type(config).__name__} under `model`",
      where=folder / OWN_CONFIG,
      rule='the file holds {"model": the config of an EMOVA model}',
      remedy=f"copy the folder again, or delete {OWN_CONFIG} of a folder in EMOVA's own format",
    )
  return config
