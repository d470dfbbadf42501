"""The unit-to-speech model under the names of EMOVA's and of transformers' files.

    EMOVA          `SynthesizerTrn`, 876 tensors; in EMOVA's Hugging Face tokenizer behind `decoder.`
    transformers   `VitsModel` (MMS-TTS among others), whose decoder is stored folded, without weight norm

EMOVA's norms are called `GAMMA` and `BETA`, in its older `.pth` files in small letters, and PyTorch renamed the two
tensors of a kernel with weight norm: `spelled_as` finds out which of these a file has.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from omni_jax.convert.hifigan import hifigan_rules
from omni_jax.convert.table import Rule, export_tensors, import_leaves, prefixed
from omni_jax.convert.weight_norm import Spelling, convolution_rules
from omni_jax.core import trees
from omni_jax.speech.gated_convolutions import GatedConvolutionsConfig
from omni_jax.speech.unit_to_speech import UnitToSpeech, UnitToSpeechConfig

_POINTWISE = "output input 1 -> input output"
_MATRIX = "output input -> input output"
_KERNEL = "output input tap -> tap input output"
_PAIR = "channel 1 -> channel"
_GATED = {"in_layers": "gated", "res_skip_layers": "mixed"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitToSpeechNames:
  """What one family of files calls the parts.

  Attributes:
    table: of units.
    layer: what the names of an encoder layer begin with, by our path; `{layer}` is its number.
    norm: scale and bias of a norm.
    pointwise: layout of the maps of attention.
    near: behind the layer's attention, keys and values by offset.
    prior: the map onto mean and deviation.
    flow: of coupling layer n, by the number of layers before it.
    coupling: input, convolutions, output of a coupling layer.
    posterior: what the names of the posterior encoder begin with, and its output, else called as in a coupling layer.
    decoder: the vocoder, and its transposed convolutions.
    durations: the predictor, by our path.
    spline: input, stack, output of a spline flow.
    stack: depthwise, mix and the norms of a stack, by our path; the number of the layer follows.
    affine: shift and scale.
    step: from the number of a spline flow to that of the next, the first of which is 1.
    speakers: the table of speakers.
    spelling: of kernels with weight norm.
  """

  table: str
  layer: Mapping[str, str]
  norm: tuple[str, str]
  pointwise: str
  near: tuple[str, str]
  prior: str
  flow: Callable[[int], str]
  coupling: tuple[str, str, str]
  posterior: tuple[str, str]
  decoder: tuple[str, str]
  durations: Mapping[str, str]
  spline: tuple[str, str, str]
  stack: Mapping[str, str]
  affine: tuple[str, str]
  step: int
  speakers: str
  spelling: Spelling


EMOVA_NAMES = UnitToSpeechNames(
  table="enc_p.emb.weight",
  layer={
    "attention": "enc_p.encoder.attn_layers.{layer}.",
    "attention.query": "enc_p.encoder.attn_layers.{layer}.conv_q",
    "attention.key": "enc_p.encoder.attn_layers.{layer}.conv_k",
    "attention.value": "enc_p.encoder.attn_layers.{layer}.conv_v",
    "attention.output": "enc_p.encoder.attn_layers.{layer}.conv_o",
    "attention_norm": "enc_p.encoder.norm_layers_1.{layer}",
    "up": "enc_p.encoder.ffn_layers.{layer}.conv_1",
    "down": "enc_p.encoder.ffn_layers.{layer}.conv_2",
    "feed_forward_norm": "enc_p.encoder.norm_layers_2.{layer}",
  },
  norm=("GAMMA", "BETA"),
  pointwise=_POINTWISE,
  near=("emb_rel_k", "emb_rel_v"),
  prior="enc_p.proj",
  flow=lambda index: f"flow.flows.{2 * index}.",  # every other one reverses the channels
  coupling=("pre", "enc", "post"),
  posterior=("enc_q.", "proj"),
  decoder=("dec.", "ups"),
  durations={
    "input": "dp.pre",
    "stack": "dp.convs",
    "output": "dp.proj",
    "flows": "dp.flows",
    "condition": "dp.cond",
    "posterior_input": "dp.post_pre",
    "posterior_stack": "dp.post_convs",
    "posterior_output": "dp.post_proj",
    "posterior_flows": "dp.post_flows",
  },
  spline=("pre", "convs", "proj"),
  stack={"depthwise": "convs_sep", "mix": "convs_1x1", "depthwise_norm": "norms_1", "mix_norm": "norms_2"},
  affine=("m", "logs"),
  step=2,
  speakers="emb_g.weight",
  spelling=Spelling.HOOK,
)
_TRANSFORMERS_LAYER = "text_encoder.encoder.layers.{layer}."
TRANSFORMERS_NAMES = UnitToSpeechNames(
  table="text_encoder.embed_tokens.weight",
  layer={
    "attention": f"{_TRANSFORMERS_LAYER}attention.",
    "attention.query": f"{_TRANSFORMERS_LAYER}attention.q_proj",
    "attention.key": f"{_TRANSFORMERS_LAYER}attention.k_proj",
    "attention.value": f"{_TRANSFORMERS_LAYER}attention.v_proj",
    "attention.output": f"{_TRANSFORMERS_LAYER}attention.out_proj",
    "attention_norm": f"{_TRANSFORMERS_LAYER}layer_norm",
    "up": f"{_TRANSFORMERS_LAYER}feed_forward.conv_1",
    "down": f"{_TRANSFORMERS_LAYER}feed_forward.conv_2",
    "feed_forward_norm": f"{_TRANSFORMERS_LAYER}final_layer_norm",
  },
  norm=("weight", "bias"),
  pointwise=_MATRIX,
  near=("emb_rel_k", "emb_rel_v"),
  prior="text_encoder.project",
  flow=lambda index: f"flow.flows.{index}.",
  coupling=("conv_pre", "wavenet", "conv_post"),
  posterior=("posterior_encoder.", "conv_proj"),
  decoder=("decoder.", "upsampler"),
  durations={
    "input": "duration_predictor.conv_pre",
    "stack": "duration_predictor.conv_dds",
    "output": "duration_predictor.conv_proj",
    "flows": "duration_predictor.flows",
    "condition": "duration_predictor.cond",
    "posterior_input": "duration_predictor.post_conv_pre",
    "posterior_stack": "duration_predictor.post_conv_dds",
    "posterior_output": "duration_predictor.post_conv_proj",
    "posterior_flows": "duration_predictor.post_flows",
  },
  spline=("conv_pre", "conv_dds", "conv_proj"),
  stack={
    "depthwise": "convs_dilated", "mix": "convs_pointwise", "depthwise_norm": "norms_1", "mix_norm": "norms_2",
  },
  affine=("translate", "log_scale"),
  step=1,
  speakers="embed_speaker.weight",
  spelling=Spelling.PARAMETRIZED,
)  # fmt: skip


def unit_to_speech_rules(config: UnitToSpeechConfig, names: UnitToSpeechNames = EMOVA_NAMES) -> list[Rule]:
  """Returns the table of a model."""
  rules = prefixed(_encoder_rules(names), ours="encoder.")
  rules += prefixed(_duration_rules(config, names), ours="durations.")
  for index in range(config.flow.depth):
    theirs, ours = names.flow(index), f"flow.layers.{index}."
    layer = _gated_rules(config.flow.convolutions, names, output=names.coupling[2])
    rules += prefixed(layer, theirs=theirs, ours=ours)
  posterior, output = names.posterior
  encoder = _gated_rules(config.posterior.convolutions, names, output=output)
  rules += prefixed(encoder, theirs=posterior, ours="posterior.")
  decoder, up = names.decoder
  generator = hifigan_rules(config.decoder, spelling=names.spelling, up=up)
  rules += prefixed(generator, theirs=decoder, ours="decoder.")
  if config.voice:
    rules += prefixed(_voice_rules(), ours="voice.")
  if config.num_speakers:
    rules.append(Rule(names.speakers, ("speakers",)))
  return rules


def import_unit_to_speech(
  config: UnitToSpeechConfig, tensors: Mapping[str, Any], *, names: UnitToSpeechNames = EMOVA_NAMES
) -> UnitToSpeech:
  """Returns the model of their tensors, in any spelling (`spelled_as`) and in their dtype.

  Raises:
    UserError: a tensor missing, left over, of another shape, or not finite; all are listed.
  """
  abstract = jax.eval_shape(lambda: config.make(key=jax.random.key(0)))
  shapes = {path: leaf.shape for path, leaf in trees.flatten(abstract).items()}
  rules = unit_to_speech_rules(config, spelled_as(tensors, names))
  return trees.unflatten(abstract, import_leaves(rules, tensors, shapes=shapes))


def export_unit_to_speech(model: UnitToSpeech, *, names: UnitToSpeechNames = EMOVA_NAMES) -> dict[str, Any]:
  """Returns the tensors of a model by their names."""
  leaves = {path: np.asarray(leaf) for path, leaf in trees.flatten(model).items()}
  return export_tensors(unit_to_speech_rules(model.config, names), leaves)


def spelled_as(tensors: Iterable[str], names: UnitToSpeechNames) -> UnitToSpeechNames:
  """Returns `names` in the spelling of a file that holds these tensors."""
  ends = {name.rpartition(".")[2] for name in tensors}
  kernels = Spelling.PARAMETRIZED if "original1" in ends else Spelling.HOOK if "weight_v" in ends else names.spelling
  norm = ("gamma", "beta") if {"gamma", "beta"} <= ends else names.norm
  return dataclasses.replace(names, spelling=kernels, norm=norm)


def _encoder_rules(names: UnitToSpeechNames) -> list[Rule]:
  rules = [Rule(names.table, ("table",))]
  for ours in ("attention.query", "attention.key", "attention.value", "attention.output"):
    rules += _mapped(names.layer[ours], f"layers.{ours}", pattern=names.pointwise)
  for theirs, ours in zip(names.near, ("near_keys", "near_values"), strict=True):
    path = f"layers.attention.{ours}"
    rules.append(Rule(names.layer["attention"] + theirs, (path,), "1 offset width -> offset width"))
  for ours in ("up", "down"):
    rules += _mapped(names.layer[ours], f"layers.{ours}", pattern=_KERNEL)
  for ours in ("attention_norm", "feed_forward_norm"):
    rules += _norm(names.layer[ours], f"layers.{ours}", names)
  return rules + _mapped(names.prior, "output", pattern=_POINTWISE)


def _duration_rules(config: UnitToSpeechConfig, names: UnitToSpeechNames) -> list[Rule]:
  parts, sizes = names.durations, config.durations
  rules: list[Rule] = []
  for prior in ("", "posterior_"):
    for part in (f"{prior}input", f"{prior}output"):
      rules += _mapped(parts[part], part, pattern=_POINTWISE)
    rules += _stack_rules(parts[f"{prior}stack"], f"{prior}stack", sizes.depth, names)
    flows = parts[f"{prior}flows"]
    for theirs, ours in zip(names.affine, ("shift", "log_scale"), strict=True):
      rules.append(Rule(f"{flows}.0.{theirs}", (f"{prior}affine.{ours}",), _PAIR))
    for index in range(sizes.num_flows):
      theirs, ours = f"{flows}.{1 + names.step * index}", f"{prior}flows.{index}"
      first, stack, last = names.spline
      rules += _mapped(f"{theirs}.{first}", f"{ours}.input", pattern=_POINTWISE)
      rules += _stack_rules(f"{theirs}.{stack}", f"{ours}.stack", sizes.depth, names)
      rules += _mapped(f"{theirs}.{last}", f"{ours}.output", pattern=_POINTWISE)
  if sizes.condition:
    rules += _mapped(parts["condition"], "condition", pattern=_POINTWISE)
  return rules


def _stack_rules(theirs: str, ours: str, depth: int, names: UnitToSpeechNames) -> list[Rule]:
  rules: list[Rule] = []
  for layer in range(depth):
    path = f"{ours}.layers.{layer}"
    depthwise, mix = f"{theirs}.{names.stack['depthwise']}.{layer}", f"{theirs}.{names.stack['mix']}.{layer}"
    rules += convolution_rules(depthwise, f"{path}.depthwise", normed=False)
    rules += _mapped(mix, f"{path}.mix", pattern=_POINTWISE)
    for norm in ("depthwise_norm", "mix_norm"):
      rules += _norm(f"{theirs}.{names.stack[norm]}.{layer}", f"{path}.{norm}", names)
  return rules


def _gated_rules(config: GatedConvolutionsConfig, names: UnitToSpeechNames, *, output: str) -> list[Rule]:
  """Returns the rows of a coupling layer or a posterior encoder: a map, gated convolutions, a map."""
  first, gated, _ = names.coupling
  rules = _mapped(first, "input", pattern=_POINTWISE) + _mapped(output, "output", pattern=_POINTWISE)
  parts = {f"{theirs}.{n}": f"{ours}.{n}" for theirs, ours in _GATED.items() for n in range(config.depth)}
  if config.condition:
    parts["cond_layer"] = "condition"
  for theirs, ours in parts.items():
    path = f"convolutions.{ours}"
    rules += convolution_rules(f"{gated}.{theirs}", path, normed=config.normed, spelling=names.spelling)
  return rules


def _voice_rules() -> list[Rule]:
  maps = {
    "spectral.0.fc": "first", "spectral.3.fc": "second", "slf_attn.w_qs": "query", "slf_attn.w_ks": "key",
    "slf_attn.w_vs": "value", "slf_attn.fc": "output", "fc.fc": "vector",
  }  # fmt: skip
  rules: list[Rule] = []
  for theirs, ours in maps.items():
    rules += _mapped(f"enc_r.{theirs}", ours, pattern=_MATRIX)
  for layer in range(2):
    rules += _mapped(f"enc_r.temporal.{layer}.conv1.conv", f"gated.{layer}", pattern=_KERNEL)
  return rules


def _mapped(theirs: str, ours: str, *, pattern: str) -> list[Rule]:
  """Returns the rows of a map or convolution without weight norm, whose kernel we call `weight`."""
  return [Rule(f"{theirs}.weight", (f"{ours}.weight",), pattern), Rule(f"{theirs}.bias", (f"{ours}.bias",))]


def _norm(theirs: str, ours: str, names: UnitToSpeechNames) -> list[Rule]:
  scale, bias = names.norm
  return [Rule(f"{theirs}.{scale}", (f"{ours}.scale",)), Rule(f"{theirs}.{bias}", (f"{ours}.bias",))]
