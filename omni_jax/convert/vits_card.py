"""The `config.json` of a VITS (`model` and `data`), as EMOVA's unit-to-speech model keeps it, both ways.

It does not say everything: the table of units is as long as in the weights, its first 178 rows are symbols of text, and
the depths of flow (4 layers of 4 convolutions) and posterior encoder (16) are those of the original's code.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from omni_jax.core.errors import UserError
from omni_jax.speech.hifigan import HiFiGANConfig
from omni_jax.speech.unit_to_speech import UnitToSpeechConfig, uvits

TABLE = "enc_p.emb.weight"  # of units, whose length config.json does not tell
_SYMBOLS = 178  # of text, in front of the units
_MODEL = (
  "inter_channels", "hidden_channels", "filter_channels", "n_heads", "n_layers", "kernel_size", "p_dropout", "resblock",
  "resblock_kernel_sizes", "resblock_dilation_sizes", "upsample_rates", "upsample_initial_channel",
  "upsample_kernel_sizes", "gin_channels",
)  # fmt: skip
_DATA = ("sampling_rate", "filter_length", "n_speakers")


def read_config(card: Mapping[str, Any], *, vocab_size: int, where: object = "config.json") -> UnitToSpeechConfig:
  """Returns our config of theirs.

  Args:
    card: the whole file.
    vocab_size: rows of the table of units.
    where: the file, for messages.

  Raises:
    UserError: a field is missing, or the table is too short for its symbols.
  """
  model, data = card.get("model", {}), card.get("data", {})
  missing = [f"model.{name}" for name in _MODEL if name not in model]
  missing += [f"data.{name}" for name in _DATA if name not in data]
  if missing or vocab_size <= _SYMBOLS:
    raise UserError(
      f"no {', '.join(missing)}" if missing else f"{vocab_size} rows in the table of units",
      where=where,
      rule=f"the file names the sizes of a VITS, whose table has {_SYMBOLS} symbols and then the units",
      remedy="take the config.json beside the weights",
    )
  decoder = HiFiGANConfig(
    inputs=model["inter_channels"],
    width=model["upsample_initial_channel"],
    rates=tuple(model["upsample_rates"]),
    taps=tuple(model["upsample_kernel_sizes"]),
    residual=str(model["resblock"]),
    block_taps=tuple(model["resblock_kernel_sizes"]),
    block_dilations=tuple(map(tuple, model["resblock_dilation_sizes"])),
    condition=model["gin_channels"],
    normed_ends=False,
    last_bias=False,
  )
  made = uvits(
    width=model["hidden_channels"],
    mlp_dim=model["filter_channels"],
    vocab_size=vocab_size,
    first_unit=_SYMBOLS,
    condition=model["gin_channels"],
    decoder=decoder,
  )
  bins = data["filter_length"] // 2 + 1
  encoder = dataclasses.replace(
    made.encoder,
    num_heads=model["n_heads"],
    depth=model["n_layers"],
    taps=model["kernel_size"],
    dropout=model["p_dropout"],
  )
  voice = dataclasses.replace(made.voice, bins=bins) if made.voice and model.get("use_ref_enc") else None
  return dataclasses.replace(
    made,
    sample_rate=data["sampling_rate"],
    encoder=encoder,
    posterior=dataclasses.replace(made.posterior, bins=bins),
    voice=voice,
    num_speakers=data["n_speakers"],
  )


def write_config(config: UnitToSpeechConfig) -> dict[str, Any]:
  """Returns their config of ours.

  Raises:
    UserError: it says something that their file cannot.
  """
  decoder, encoder, size = config.decoder, config.encoder, 2 * (config.posterior.bins - 1)
  card = {
    "model": {
      "inter_channels": decoder.inputs,
      "hidden_channels": encoder.width,
      "filter_channels": encoder.mlp_dim,
      "n_heads": encoder.num_heads,
      "n_layers": encoder.depth,
      "kernel_size": encoder.taps,
      "p_dropout": encoder.dropout,
      "resblock": decoder.residual,
      "resblock_kernel_sizes": list(decoder.block_taps),
      "resblock_dilation_sizes": [list(each) for each in decoder.block_dilations],
      "upsample_rates": list(decoder.rates),
      "upsample_initial_channel": decoder.width,
      "upsample_kernel_sizes": list(decoder.taps),
      "gin_channels": config.condition,
      "use_ref_enc": config.voice is not None,
    },
    "data": {
      "sampling_rate": config.sample_rate,
      "filter_length": size,
      "win_length": size,
      "hop_length": decoder.hop,
      "n_speakers": config.num_speakers,
      "add_blank": False,
    },
  }
  if encoder.vocab_size <= _SYMBOLS or read_config(card, vocab_size=encoder.vocab_size) != config:
    raise UserError(
      "sizes that config.json of a VITS does not name",
      where="export of a unit-to-speech model",
      rule=f"weight norm is kept, the first {_SYMBOLS} rows are symbols, and depths are those of EMOVA's model",
      remedy="write --format hf, which states our own config beside",
    )
  return card
