"""The decoder of SNAC (`speech/snac.py`) as one program.

    sound    `units` int64 [B, F, Q], rows of codes, `first` int64 [B]    -> `waveform` [B, F * hop]

`first` is the number of the first frame, which the noise follows, so that a stream in windows equals the whole.
"""

from typing import Any

import jax
import numpy as np

from omni_jax.export.onnx_graph import Graph
from omni_jax.export.onnx_layers import convolution, repeated, to_pictures, to_samples, upsampling
from omni_jax.export.programs import SOUND, Port, Program, style_facts
from omni_jax.nn.channelwise import SMALLEST_SLOPE
from omni_jax.speech.snac import SNAC
from omni_jax.speech.snac_layers import NOISE_APART, DecoderStage, ResidualUnit, Snake
from omni_jax.speech.source import NOISE_SAMPLES, noise_table


def facts_of(model: SNAC) -> dict[str, Any]:
  """Returns the metadata of the decoder."""
  config = model.config
  return {
    "kind": "snac",
    "sample_rate": config.sample_rate,
    "hop": config.hop,
    "codebooks": model.num_codebooks,
    "codebook_size": config.codebook_size,
    "units": {"first": 0, "number": config.codebook_size, "columns": config.columns},
    "context": config.decoder_context,
    "durations": {"rounding": "nearest", "least": 1},
    "delivery": {},
    **style_facts([]),
  }


def programs_of(model: SNAC) -> list[Program]:
  """Returns the one program."""
  arrays = jax.tree.map(np.asarray, model)

  def write(graph: Graph) -> None:
    graph("Identity", write_sound(graph, arrays, "units", first="first"), output="waveform")

  inputs = {
    "units": Port("int64", ("B", "F", model.num_codebooks)),
    "first": Port("int64", ("B",)),
  }
  outputs, cases = {"waveform": Port("float32", ("B", "A"))}, []
  for length in (1, 8):
    units = np.random.default_rng(0).integers(0, model.codebook_size, (2, length, model.num_codebooks))
    cases.append({"units": units, "first": np.array([0, 700], np.int64)})
  return [Program(SOUND, inputs, outputs, write, cases, sound_function)]


def sound_function(model: SNAC, given: dict[str, Any]) -> dict[str, Any]:
  """The graph in JAX, by the names of its inputs and outputs."""
  return {"waveform": model.speak(given["units"], given.get("valid"), first=given["first"])}


def write_sound(graph: Graph, model: SNAC, units: str, *, first: str) -> str:
  """Returns samples [B, F * hop] of codes [B, F, Q]; `first` is [B]."""
  strides, decoder = model.config.strides, model.decoder
  x = graph("Sum", *(_latents(graph, model, units, level) for level in range(len(strides))))
  first = graph("Mul", first, np.int64(strides[0]))
  x = convolution(graph, x, decoder.first)
  x = x if decoder.widen is None else convolution(graph, x, decoder.widen)
  for number, stage in enumerate(decoder.stages):
    first = graph("Mul", first, np.int64(stage.up.kernel.stride))
    x = _stage(graph, stage, x, first=graph("Add", first, np.int64(number * NOISE_APART)))
  return to_samples(graph, graph("Tanh", convolution(graph, _snake(graph, x, decoder.snake), decoder.last)))


def _latents(graph: Graph, model: SNAC, units: str, level: int) -> str:
  """Returns what one quantiser says of every latent, [B, C, 1, T]."""
  quantizer = model.quantizers[level]
  own = np.array([column for column, (other, _) in enumerate(model.config.columns) if other == level])
  codes = graph.reshape(graph("Gather", units, own, axis=2), 0, -1)
  rows = to_pictures(graph, graph("Gather", quantizer.codebook[...], codes))
  return repeated(graph, convolution(graph, rows, quantizer.output), quantizer.stride)


def _stage(graph: Graph, stage: DecoderStage, x: str, *, first: str) -> str:
  x = upsampling(graph, _snake(graph, x, stage.snake), stage.up)
  if stage.noise is not None:
    x = graph("Add", x, graph("Mul", _noise(graph, x, first), convolution(graph, x, stage.noise)))
  for unit in stage.units:
    x = _residual_unit(graph, unit, x)
  return x


def _residual_unit(graph: Graph, unit: ResidualUnit, x: str) -> str:
  y = convolution(graph, _snake(graph, x, unit.before), unit.dilated)
  return graph("Add", x, convolution(graph, _snake(graph, y, unit.between), unit.pointwise))


def _snake(graph: Graph, x: str, snake: Snake) -> str:
  alpha = snake.alpha[...][None, :, None, None]
  wave = graph("Sin", graph("Mul", x, alpha))
  return graph("Add", x, graph("Mul", graph("Mul", wave, wave), 1.0 / (alpha + np.float32(SMALLEST_SLOPE))))


def _noise(graph: Graph, x: str, first: str) -> str:
  """Returns noise [B, 1, 1, T] for frames [B, C, 1, T], from the place `first` [B] of the table on."""
  length = graph("Squeeze", graph.slice(graph("Shape", x), 3, 4, axis=0))
  steps = graph.reshape(graph("Range", np.int64(0), length, np.int64(1)), 1, 1, 1, -1)
  places = graph("Mod", graph("Add", graph.reshape(first, -1, 1, 1, 1), steps), np.int64(NOISE_SAMPLES))
  return graph("Gather", noise_table(), places)
