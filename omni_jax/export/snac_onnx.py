"""The decoder of SNAC (`speech/snac.py`) as one program.

    sound    `units` int64 [B, F, Q], rows of codes, `valid` [B, F], `first` int64 [B]    -> `waveform` [B, F * hop]

`first` is the number of the first frame, which the noise follows, so that a stream in windows equals the whole.
"""

from typing import Any

import jax
import numpy as np

from omni_jax.export.onnx_graph import Graph
from omni_jax.export.onnx_layers import all_valid, convolution, masked, repeated, upsampling
from omni_jax.export.programs import SOUND, Port, Program, mask_of, style_facts
from omni_jax.speech.snac import SNAC
from omni_jax.speech.snac_layers import NOISE_APART, SMALLEST_SLOPE, DecoderStage, ResidualUnit, Snake
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
    graph("Identity", write_sound(graph, arrays, "units", valid="valid", first="first"), output="waveform")

  inputs = {
    "units": Port("int64", ("B", "F", model.num_codebooks)),
    "valid": Port("float32", ("B", "F")),
    "first": Port("int64", ("B",)),
  }
  outputs, cases = {"waveform": Port("float32", ("B", "A"))}, []
  for lengths in ((1, 1), (5, 3), (8, 8)):
    units = np.random.default_rng(0).integers(0, model.codebook_size, (2, max(lengths), model.num_codebooks))
    cases.append({"units": units, "valid": mask_of(lengths), "first": np.array([0, 700], np.int64)})
  return [Program(SOUND, inputs, outputs, write, cases, sound_function)]


def sound_function(model: SNAC, given: dict[str, Any]) -> dict[str, Any]:
  """The graph in JAX, by the names of its inputs and outputs."""
  return {"waveform": model.speak(given["units"], given["valid"], first=given["first"])}


def write_sound(graph: Graph, model: SNAC, units: str, *, valid: str, first: str) -> str:
  """Returns samples [B, F * hop] of codes [B, F, Q]; `valid` is [B, F], `first` [B]."""
  strides = model.config.strides
  latents = [_latents(graph, model, units, level) for level in range(len(strides))]
  x = graph("Sum", *latents)
  first = graph("Mul", first, np.int64(strides[0]))
  mask = repeated(graph, graph("Unsqueeze", valid, np.array([1], np.int64)), strides[0])
  return graph.choose(
    all_valid(graph, valid),
    lambda: _decoder(graph, model.decoder, x, valid=None, first=first),
    lambda: _decoder(graph, model.decoder, x, valid=mask, first=first),
  )


def _latents(graph: Graph, model: SNAC, units: str, level: int) -> str:
  """Returns what one quantiser says of every latent, [B, C, T]."""
  quantizer = model.quantizers[level]
  own = np.array([column for column, (other, _) in enumerate(model.config.columns) if other == level])
  codes = graph.reshape(graph("Gather", units, own, axis=2), 0, -1)
  rows = graph.turn(graph("Gather", quantizer.codebook[...], codes))
  return repeated(graph, convolution(graph, rows, quantizer.output), quantizer.stride)


def _decoder(graph: Graph, decoder: Any, x: str, *, valid: str | None, first: str) -> str:
  x = convolution(graph, masked(graph, x, valid), decoder.first)
  x = masked(graph, x if decoder.widen is None else convolution(graph, x, decoder.widen), valid)
  for number, stage in enumerate(decoder.stages):
    rate = stage.up.kernel.stride
    first = graph("Mul", first, np.int64(rate))
    valid = None if valid is None else repeated(graph, valid, rate)
    x = _stage(graph, stage, x, valid=valid, first=graph("Add", first, np.int64(number * NOISE_APART)))
  x = graph("Tanh", convolution(graph, _snake(graph, x, decoder.snake), decoder.last))
  return graph("Squeeze", masked(graph, x, valid), np.array([1], np.int64))


def _stage(graph: Graph, stage: DecoderStage, x: str, *, valid: str | None, first: str) -> str:
  x = masked(graph, upsampling(graph, _snake(graph, x, stage.snake), stage.up), valid)
  if stage.noise is not None:
    x = graph("Add", x, graph("Mul", _noise(graph, x, first), convolution(graph, x, stage.noise)))
  for unit in stage.units:
    x = _residual_unit(graph, unit, x, valid)
  return x


def _residual_unit(graph: Graph, unit: ResidualUnit, x: str, valid: str | None) -> str:
  y = masked(graph, convolution(graph, _snake(graph, x, unit.before), unit.dilated), valid)
  return graph("Add", x, masked(graph, convolution(graph, _snake(graph, y, unit.between), unit.pointwise), valid))


def _snake(graph: Graph, x: str, snake: Snake) -> str:
  alpha = snake.alpha[...][None, :, None]
  wave = graph("Sin", graph("Mul", x, alpha))
  return graph("Add", x, graph("Mul", graph("Mul", wave, wave), 1.0 / (alpha + np.float32(SMALLEST_SLOPE))))


def _noise(graph: Graph, x: str, first: str) -> str:
  """Returns noise [B, 1, T] for frames [B, C, T], from the place `first` [B] of the table on."""
  length = graph("Squeeze", graph.slice(graph("Shape", x), 2, 3, axis=0))
  steps = graph.reshape(graph("Range", np.int64(0), length, np.int64(1)), 1, 1, -1)
  places = graph("Mod", graph("Add", graph.reshape(first, -1, 1, 1), steps), np.int64(NOISE_SAMPLES))
  return graph("Gather", noise_table(), places)
