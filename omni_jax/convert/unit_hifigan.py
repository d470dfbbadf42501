"""Unit HiFi-GAN as fairseq keeps it: `config.json` and the tensors under `generator` in its checkpoint, both ways."""

from collections.abc import Mapping
from typing import Any

from omni_jax.convert.hifigan import hifigan_rules
from omni_jax.convert.table import Rule, prefixed
from omni_jax.core.errors import UserError
from omni_jax.speech.hifigan import HiFiGANConfig
from omni_jax.speech.unit_hifigan import DurationConfig, UnitHiFiGANConfig

CHECKPOINT_KEY = "generator"

_TAPS = 3  # the original pads the second convolution of its durations by one, whatever its taps
_DEFAULT_SPEAKERS, _DEFAULT_INPUTS = 200, 80  # what fairseq assumes where the file says nothing


def unit_hifigan_rules(config: UnitHiFiGANConfig) -> list[Rule]:
  """Returns the table of the vocoder; a folded one (`generator.normed` False) has plain weights."""
  rules = [Rule("dict.weight", ("units",))]
  if config.speakers:
    rules.append(Rule("spkr.weight", ("speakers",)))
  if config.duration is not None:
    rules += prefixed(_duration_rules(), theirs="dur_predictor.", ours="durations.")
  return rules + prefixed(hifigan_rules(config.generator), ours="generator.")


def _duration_rules() -> list[Rule]:
  rules = []
  for number, own in ((1, "first"), (2, "second")):
    rules += [
      Rule(f"conv{number}.0.weight", (f"{own}.weight",), "output input taps -> taps input output"),
      Rule(f"conv{number}.0.bias", (f"{own}.bias",)),
      Rule(f"ln{number}.weight", (f"{own}_norm.scale",)),
      Rule(f"ln{number}.bias", (f"{own}_norm.bias",)),
    ]
  return [
    *rules,
    Rule("proj.weight", ("output.weight",), "output input -> input output"),
    Rule("proj.bias", ("output.bias",)),
  ]


def read_config(values: Mapping[str, Any], *, where: object = "config.json") -> UnitHiFiGANConfig:
  """Returns our config of fairseq's.

  Raises:
    UserError: a field is missing, or asks for what this vocoder has not: F0, speaker vectors, other residual blocks.
  """
  needed = ["upsample_rates", "upsample_kernel_sizes", "upsample_initial_channel", "resblock_kernel_sizes"]
  needed += ["resblock_dilation_sizes", "num_embeddings", "embedding_dim"]
  missing = [name for name in needed if name not in values]
  if missing:
    raise _unreadable(f"no {', '.join(missing)}", where, "a unit vocoder's config names its sizes")
  for name, absent in (("f0", False), ("embedder_params", None)):
    if values.get(name, absent):
      raise _unreadable(
        f"{name} is {values[name]!r}", where, "it is given units, their durations and a speaker's number"
      )
  if str(values.get("resblock", "1")) != "1":
    raise _unreadable(f"resblock {values['resblock']!r}", where, "fairseq has residual blocks of type 1 only")
  embedding = int(values["embedding_dim"])
  speakers = int(values.get("num_speakers", _DEFAULT_SPEAKERS)) if values.get("multispkr") else 0
  inputs = int(values.get("model_in_dim", _DEFAULT_INPUTS))
  if inputs != embedding * (2 if speakers else 1):
    raise _unreadable(f"model_in_dim {inputs}", where, "it is the width of a unit's embedding and of a speaker's")
  generator = HiFiGANConfig(
    inputs=inputs,
    width=int(values["upsample_initial_channel"]),
    rates=tuple(values["upsample_rates"]),
    taps=tuple(values["upsample_kernel_sizes"]),
    residual="1",
    block_taps=tuple(values["resblock_kernel_sizes"]),
    block_dilations=tuple(map(tuple, values["resblock_dilation_sizes"])),
  )
  return UnitHiFiGANConfig(
    sample_rate=int(values.get("sampling_rate", 16000)),
    codebook_size=int(values["num_embeddings"]),
    embedding=embedding,
    speakers=speakers,
    duration=_read_durations(values.get("dur_predictor_params"), embedding=embedding, where=where),
    generator=generator,
  )


def write_config(config: UnitHiFiGANConfig) -> dict[str, Any]:
  """Returns fairseq's config of ours; `read_config` gives ours back."""
  generator = config.generator
  values = {
    "resblock": generator.residual,
    "upsample_rates": list(generator.rates),
    "upsample_kernel_sizes": list(generator.taps),
    "upsample_initial_channel": generator.width,
    "resblock_kernel_sizes": list(generator.block_taps),
    "resblock_dilation_sizes": [list(each) for each in generator.block_dilations],
    "num_embeddings": config.codebook_size,
    "embedding_dim": config.embedding,
    "model_in_dim": generator.inputs,
    "code_hop_size": generator.hop,
    "sampling_rate": config.sample_rate,
  }
  if config.speakers:
    values |= {"multispkr": True, "num_speakers": config.speakers}
  if config.duration is not None:
    values["dur_predictor_params"] = {
      "encoder_embed_dim": config.embedding,
      "var_pred_hidden_dim": config.duration.width,
      "var_pred_kernel_size": config.duration.taps,
      "var_pred_dropout": config.duration.dropout,
    }
  return values


def _read_durations(values: Mapping[str, Any] | None, *, embedding: int, where: object) -> DurationConfig | None:
  if not values:
    return None
  if values["encoder_embed_dim"] != embedding or values["var_pred_kernel_size"] != _TAPS:
    raise _unreadable(
      f"dur_predictor_params {dict(values)}",
      where,
      f"durations are predicted from the embeddings of units ({embedding}) by convolutions of {_TAPS} taps",
    )
  return DurationConfig(width=values["var_pred_hidden_dim"], taps=_TAPS, dropout=values["var_pred_dropout"])


def _unreadable(what: str, where: object, rule: str) -> UserError:
  return UserError(what, where=where, rule=rule, remedy="take the config.json of a unit vocoder of fairseq")
