"""Unit HiFi-GAN (`speech/unit_hifigan.py`) as two programs; the first is left out where there is no predictor.

    units    `units` int64 [B, U], `valid` [B, U]                        -> `frames` [B, U], before they are rounded
    sound    `units` int64 [B, T], one for each frame                    -> `waveform` [B, T * hop]
             (`speaker` int64 [B] where there are several)

A runtime repeats every unit for max(round(frames * length), 1) frames in between.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.export.onnx_graph import Graph
from omni_jax.export.onnx_layers import hifigan, linear, norm, over_time, to_pictures
from omni_jax.export.programs import SOUND, UNITS, Arrays, Port, Program, mask_of, style_facts
from omni_jax.speech.unit_hifigan import DurationPredictor, UnitHiFiGAN

_LENGTHS = ((1, 1), (9, 6))  # of the two rows that graphs are compared by


def facts_of(model: UnitHiFiGAN) -> dict[str, Any]:
  """Returns the metadata of the vocoder."""
  config, speakers = model.config, np.arange(model.config.speakers)
  return {
    "kind": "unit_hifigan",
    "sample_rate": config.sample_rate,
    "hop": config.generator.hop,
    "codebooks": 1,
    "codebook_size": config.codebook_size,
    "units": {"first": 0, "number": config.codebook_size, "row of the first": 0},
    "context": config.generator.context,
    "context of units": config.duration.context if config.duration else 0,
    "durations": {"rounding": "nearest", "least": 1},
    "delivery": {},
    **style_facts(
      [f"speaker-{number}" for number in range(config.speakers)], speakers, port="speaker" if len(speakers) else None
    ),
  }


def programs_of(model: UnitHiFiGAN) -> list[Program]:
  """Returns the programs of the vocoder."""
  arrays = jax.tree.map(np.asarray, model)
  return [*([] if model.durations is None else [_units_program(arrays)]), _sound_program(arrays)]


def write_frames(graph: Graph, model: UnitHiFiGAN, units: str, valid: str) -> str:
  """Returns how many frames each unit lasts, [B, U], before they are rounded; zero where `valid` [B, U] is."""
  if model.durations is None:
    return valid
  logs = _durations(graph, model.durations, graph("Gather", model.units[...], units), valid)
  return graph("Mul", graph("Sub", graph("Exp", logs), 1.0), valid)


def write_sound(graph: Graph, model: UnitHiFiGAN, units: str, *, speaker: str | None) -> str:
  """Returns samples [B, T * hop] of the unit of each frame [B, T]; `speaker` is [B]."""
  x = graph("Gather", model.units[...], units)
  if speaker is not None:
    assert model.speakers is not None, "a vocoder of one voice is not told who speaks"
    voice = graph("Unsqueeze", graph("Gather", model.speakers[...], speaker), np.array([1], np.int64))
    x = graph("Concat", x, graph("Expand", voice, graph("Shape", x)), axis=2)
  return hifigan(graph, to_pictures(graph, x), model.generator, condition=None)


def _durations(graph: Graph, predictor: DurationPredictor, x: str, valid: str) -> str:
  mask = graph("Unsqueeze", valid, np.array([2], np.int64))
  for layer, layer_norm in (
    (predictor.first, predictor.first_norm),
    (predictor.second, predictor.second_norm),
  ):
    x = norm(graph, graph("Relu", over_time(graph, graph("Mul", x, mask), layer)), layer_norm)
  return graph("Squeeze", linear(graph, x, predictor.output), np.array([2], np.int64))


def _units_program(model: UnitHiFiGAN) -> Program:
  def write(graph: Graph) -> None:
    graph("Identity", write_frames(graph, model, "units", "valid"), output="frames")

  inputs = {"units": Port("int64", ("B", "U")), "valid": Port("float32", ("B", "U"))}
  outputs = {"frames": Port("float32", ("B", "U"))}
  return Program(UNITS, inputs, outputs, write, [_case(model, inputs, one) for one in _LENGTHS], units_function)


def _sound_program(model: UnitHiFiGAN) -> Program:
  speaker = "speaker" if model.config.speakers else None

  def write(graph: Graph) -> None:
    graph("Identity", write_sound(graph, model, "units", speaker=speaker), output="waveform")

  inputs = {"units": Port("int64", ("B", "T"))}
  inputs |= {speaker: Port("int64", ("B",))} if speaker else {}
  outputs = {"waveform": Port("float32", ("B", "A"))}
  cases = [_case(model, inputs, one) for one in ((1, 1), (25, 25))]
  return Program(SOUND, inputs, outputs, write, cases, sound_function)


def units_function(model: UnitHiFiGAN, given: dict[str, Any]) -> dict[str, Any]:
  """The first graph in JAX, by the names of its inputs and outputs."""
  units, valid = given["units"], given["valid"]
  if model.durations is None:
    return {"frames": valid}
  return {"frames": (jnp.exp(model.log_durations(units, valid)) - 1.0) * valid}


def sound_function(model: UnitHiFiGAN, given: dict[str, Any]) -> dict[str, Any]:
  """The second graph in JAX, by the names of its inputs and outputs."""
  return {"waveform": model(given["units"], given.get("valid"), speaker=given.get("speaker"))}


def _case(model: UnitHiFiGAN, ports: dict[str, Port], lengths: tuple[int, int]) -> Arrays:
  units = np.random.default_rng(0).integers(0, model.codebook_size, (2, max(lengths)))
  speaker = np.arange(2, dtype=np.int64) % max(model.config.speakers, 1)
  return {name: {"units": units, "valid": mask_of(lengths), "speaker": speaker}[name] for name in ports}
