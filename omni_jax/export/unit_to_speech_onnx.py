"""EMOVA's unit-to-speech model, a VITS (`speech/unit_to_speech.py`), as two programs.

    units    `units` int64 [B, U], `valid` [B, U], `condition` [B, G], `noise` [B, U, 2]
             -> `mean` [B, U, C], `log_deviation` [B, U, C], `frames` [B, U]
    sound    `latents` [B, T, C], `condition` [B, G]     -> `waveform` [B, T * hop]

In between a runtime repeats every unit's prior for ceil(frames * length) frames and draws latents from it,
mean + scale * noise * exp(log_deviation). `noise` of the first graph is a standard normal draw times its own scale. A
model without conditions has no such input.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.export.onnx_graph import Graph
from omni_jax.export.onnx_layers import convolution, gated_convolutions, hifigan, to_pictures
from omni_jax.export.programs import SOUND, UNITS, Arrays, Port, Program, mask_of
from omni_jax.export.unit_encoder_onnx import PriorNames, unit_masks, write_log_durations, write_prior
from omni_jax.speech.conditions import Centroids
from omni_jax.speech.latents import Flow
from omni_jax.speech.unit_to_speech import UnitToSpeech
from omni_jax.speech.unit_voice import Delivery


def styles_of(model: UnitToSpeech, centroids: Centroids | None) -> Centroids:
  """Returns the conditions that a runtime can name: those given, or else one for each speaker of the model's table.

  Raises:
    UserError: the model takes a condition and has neither, or the centroids are of another width.
  """
  width = model.config.condition
  if centroids is None and model.speakers is not None:
    names = tuple(f"speaker-{number}" for number in range(model.config.num_speakers))
    centroids = Centroids(names, np.asarray(model.speakers[...]))
  if centroids is None and not width:
    return Centroids((), np.zeros((0, 0), np.float32))
  if centroids is None or centroids.vectors.shape[1] != width:
    given = "no styles" if centroids is None else f"styles of width {centroids.vectors.shape[1]}"
    raise UserError(
      given,
      where="export of a unit-to-speech model",
      rule=f"this model speaks in conditions of {width} numbers, and a runtime has to name them",
      remedy="keep the model with its centroids: omni convert import --part unit-to-speech --styles FILE",
    )
  return centroids


def facts_of(model: UnitToSpeech, delivery: Delivery) -> dict[str, Any]:
  """Returns the metadata of the model, without its styles."""
  config = model.config
  return {
    "kind": "unit_to_speech",
    "sample_rate": config.sample_rate,
    "hop": config.decoder.hop,
    "codebooks": 1,
    "codebook_size": config.codebook_size,
    "units": {"first": 0, "number": config.codebook_size, "row of the first": config.first_unit},
    "latent": config.flow.latent,
    "context": config.context,
    "durations": {"rounding": "up", "least": 0},
    "delivery": {"noise": delivery.noise, "duration_noise": delivery.duration_noise, "length": delivery.length},
  }


def programs_of(model: UnitToSpeech) -> list[Program]:
  """Returns the programs of the model."""
  arrays = jax.tree.map(np.asarray, model)
  return [_units_program(arrays), _sound_program(arrays)]


def write_units(
  graph: Graph, model: UnitToSpeech, units: str, *, valid: str, condition: str | None, noise: str
) -> tuple[PriorNames, str]:
  """Returns the prior of units [B, U] and the frames of each before they are rounded, [B, U]."""
  masks = unit_masks(graph, valid)
  prior = write_prior(graph, model.encoder, units, masks, first_unit=model.config.first_unit)
  logs = write_log_durations(graph, model.durations, prior.hidden, masks, condition=condition, noise=noise)
  return prior, graph("Mul", graph("Exp", logs), valid)


def write_sound(graph: Graph, model: UnitToSpeech, latents: str, *, condition: str | None) -> str:
  """Returns samples [B, T * hop] of latents [B, T, C] of the prior."""
  voice = None if condition is None else graph("Unsqueeze", condition, np.array([2, 3], np.int64))
  flowed = _flow_backward(graph, model.flow, to_pictures(graph, latents), condition=voice)
  return hifigan(graph, flowed, model.decoder, condition=voice)


def _flow_backward(graph: Graph, flow: Flow, x: str, *, condition: str | None) -> str:
  half = flow.config.latent // 2
  for layer in flow.layers[::-1]:
    reversed_channels = np.arange(2 * half)[::-1].copy()
    first, second = graph.split(graph("Gather", x, reversed_channels, axis=1), (half, half), axis=1)
    y = gated_convolutions(graph, convolution(graph, first, layer.input), layer.convolutions, condition=condition)
    x = graph("Concat", first, graph("Sub", second, convolution(graph, y, layer.output)), axis=1)
  return x


def _units_program(model: UnitToSpeech) -> Program:
  condition = "condition" if model.config.condition else None

  def write(graph: Graph) -> None:
    prior, frames = write_units(graph, model, "units", valid="valid", condition=condition, noise="noise")
    for name, value in (("mean", prior.mean), ("log_deviation", prior.log_deviation), ("frames", frames)):
      graph("Identity", value, output=name)

  inputs = {"units": Port("int64", ("B", "U")), "valid": Port("float32", ("B", "U"))}
  inputs |= {condition: Port("float32", ("B", model.config.condition))} if condition else {}
  inputs["noise"] = Port("float32", ("B", "U", 2))
  prior = Port("float32", ("B", "U", model.config.flow.latent))
  outputs = {"mean": prior, "log_deviation": prior, "frames": Port("float32", ("B", "U"))}
  cases = [_case(model, inputs, lengths) for lengths in ((1, 1), (13, 9))]
  return Program(UNITS, inputs, outputs, write, cases, units_function)


def _sound_program(model: UnitToSpeech) -> Program:
  condition = "condition" if model.config.condition else None

  def write(graph: Graph) -> None:
    graph("Identity", write_sound(graph, model, "latents", condition=condition), output="waveform")

  inputs = {"latents": Port("float32", ("B", "T", model.config.flow.latent))}
  inputs |= {condition: Port("float32", ("B", model.config.condition))} if condition else {}
  outputs = {"waveform": Port("float32", ("B", "A"))}
  cases = [_case(model, inputs, lengths) for lengths in ((1, 1), (64, 64))]
  return Program(SOUND, inputs, outputs, write, cases, sound_function)


def _case(model: UnitToSpeech, ports: dict[str, Port], lengths: tuple[int, int]) -> Arrays:
  rng, places = np.random.default_rng(lengths[0]), {"B": 2, "U": max(lengths), "T": max(lengths)}
  drawn = {}
  for name, port in ports.items():
    sizes = [size if isinstance(size, int) else places[size] for size in port.sizes]
    drawn[name] = rng.standard_normal(sizes).astype(np.float32)
  if "units" in ports:
    drawn |= {"units": rng.integers(0, model.config.codebook_size, (2, max(lengths))), "valid": mask_of(lengths)}
  return drawn


def units_function(model: UnitToSpeech, given: dict[str, Any]) -> dict[str, Any]:
  """The first graph in JAX, by the names of its inputs and outputs."""
  units, valid, condition = given["units"], given["valid"], given.get("condition")
  prior = model.read(units, valid)
  frames = jnp.exp(model.log_durations(prior, valid, condition, noise=given["noise"])) * valid
  return {"mean": prior.mean, "log_deviation": prior.log_deviation, "frames": frames}


def sound_function(model: UnitToSpeech, given: dict[str, Any]) -> dict[str, Any]:
  """The second graph in JAX, by the names of its inputs and outputs."""
  latents, valid = given["latents"], given.get("valid")
  valid = jnp.ones(latents.shape[:2], latents.dtype) if valid is None else valid
  return {"waveform": model.sound(latents, valid, given.get("condition"))}
