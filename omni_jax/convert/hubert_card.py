"""What a folder says of its HuBERT: config.json and preprocessor_config.json of transformers, both ways.

A folder of fairseq's tensors says nothing; it is HuBERT base (mHuBERT among them) or large by its number of layers.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omni_jax.convert.folders import read_json
from omni_jax.convert.hubert import HubertNames
from omni_jax.core.errors import UserError
from omni_jax.speech.encoder_block import EncoderConfig
from omni_jax.speech.hubert import HUBERT_BASE, HUBERT_LARGE, HubertConfig, StemLayer

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
_INPUT_EPS = 1e-7  # Wav2Vec2FeatureExtractor, on the variance of a waveform
# What transformers' HubertConfig has besides, and the only value that is read here.
_ONLY = {
  "hidden_act": "gelu",
  "feat_extract_activation": "gelu",
  "feat_proj_layer_norm": True,
  "conv_pos_batch_norm": False,
}
_NEEDED = (
  "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "conv_dim", "conv_kernel",
  "conv_stride", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups",
)  # fmt: skip


def find_names(tensors: Iterable[str], *, where: Path) -> HubertNames:
  """Returns whose names a file has.

  Raises:
    UserError: nobody's that is known.
  """
  held = set(tensors)
  for names in HubertNames:
    if set(names.value) <= held:
      return names
  raise UserError(
    "no positional convolution of a HuBERT",
    where=where,
    rule="the tensors have the names of transformers' HubertModel or of fairseq",
    remedy="see convert/hubert.py for how to write them; a model with a head has its HuBERT under `hubert.`",
  )


def read_config(folder: Path, tensors: Iterable[str]) -> HubertConfig:
  """Returns the config of a folder.

  Raises:
    UserError: config.json is damaged, lacks a size, or asks for what this HuBERT has not.
  """
  if not (folder / CONFIG).exists():
    large = any(name.startswith("encoder.layers.12.") for name in tensors)
    return HUBERT_LARGE if large else HUBERT_BASE
  card = read_json(folder / CONFIG)
  sound = read_json(folder / PREPROCESSOR) if (folder / PREPROCESSOR).exists() else {}
  missing = [name for name in _NEEDED if name not in card]
  other = [f"{name} {card[name]!r}" for name, value in _ONLY.items() if card.get(name, value) != value]
  if missing or other:
    raise UserError(
      f"no {', '.join(missing)}" if missing else ", ".join(other),
      where=folder / CONFIG,
      rule="the file names every size, and " + ", ".join(f"{name} is {value!r}" for name, value in _ONLY.items()),
      remedy="take the folder of a HubertModel",
    )
  stem = zip(card["conv_dim"], card["conv_kernel"], card["conv_stride"], strict=True)
  return HubertConfig(
    sample_rate=sound.get("sampling_rate", 16000),
    stem=tuple(StemLayer(width=width, taps=taps, stride=stride) for width, taps, stride in stem),
    stem_bias=card.get("conv_bias", False),
    stem_norm_each=card.get("feat_extract_norm", "group") == "layer",
    encoder=EncoderConfig(
      width=card["hidden_size"],
      depth=card["num_hidden_layers"],
      num_heads=card["num_attention_heads"],
      mlp_dim=card["intermediate_size"],
      norm_eps=card.get("layer_norm_eps", 1e-5),
      norm_first=card.get("do_stable_layer_norm", False),
    ),
    position_taps=card["num_conv_pos_embeddings"],
    position_groups=card["num_conv_pos_embedding_groups"],
    input_norm_eps=_INPUT_EPS if sound.get("do_normalize", False) else None,
  )


def write_config(config: HubertConfig) -> dict[str, dict[str, Any]]:
  """Returns the two files by name, as transformers reads them; `read_config` gives ours back where eps is theirs."""
  encoder = config.encoder
  card = {
    "model_type": "hubert",
    "architectures": ["HubertModel"],
    "hidden_size": encoder.width,
    "num_hidden_layers": encoder.depth,
    "num_attention_heads": encoder.num_heads,
    "intermediate_size": encoder.mlp_dim,
    "layer_norm_eps": encoder.norm_eps,
    "do_stable_layer_norm": encoder.norm_first,
    "conv_dim": [layer.width for layer in config.stem],
    "conv_kernel": [layer.taps for layer in config.stem],
    "conv_stride": [layer.stride for layer in config.stem],
    "num_feat_extract_layers": len(config.stem),
    "conv_bias": config.stem_bias,
    "feat_extract_norm": "layer" if config.stem_norm_each else "group",
    "num_conv_pos_embeddings": config.position_taps,
    "num_conv_pos_embedding_groups": config.position_groups,
  }
  sound = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "sampling_rate": config.sample_rate,
    "do_normalize": config.input_norm_eps is not None,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": config.stem_norm_each,
  }
  return {CONFIG: card, PREPROCESSOR: sound}
