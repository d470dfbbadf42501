"""Units to waveform in one ONNX graph with Piper's inputs, so that runtimes made for Piper's voices speak units.

    `input` int64 [1, U], `input_lengths` int64 [1], `scales` [3] (noise, length, noise of durations), `sid` int64 [1]
    -> `output` [1, 1, 1, A]

The graph joins those of `unit_to_speech_onnx.py` or `unit_hifigan_onnx.py`: durations are rounded, units repeated and
noise drawn by ONNX operators, so every call sounds a little different, nothing can be streamed, and the batch is one.
`sid` is the style or speaker, an input where there are several. The file beside it, STEM.piper.onnx.json, is Piper's
config: a unit is written as one character of Unicode's private plane, and nothing is put before, between or behind.

Interface: `piper_train/export_onnx.py` and `piper/voice.py` of Piper.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.export import unit_hifigan_onnx, unit_to_speech_onnx
from omni_jax.export.onnx_graph import Graph
from omni_jax.export.programs import Arrays, Port, Program
from omni_jax.speech.unit_hifigan import UnitHiFiGAN
from omni_jax.speech.unit_to_speech import UnitToSpeech

PIPER = ".piper"
FIRST_CHARACTER = 0xE000  # of Unicode's private use area, which has 6,400
_MOST_UNITS = 6400
_LENGTH = 13  # of the units that the graph is compared by
_FLOAT, _INT64 = 1, 7  # of onnx.TensorProto, so that this module imports without onnx


class _Styles(NamedTuple):
  """How many styles there are, and the row of each, [number, width]; no rows where nothing is said of style."""

  number: int
  rows: np.ndarray | None

  @classmethod
  def of(cls, facts: Mapping[str, Any]) -> "_Styles":
    number = len(facts["styles"])
    rows = np.frombuffer(base64.b64decode(facts["style rows"]), "<f4")
    return cls(number, rows.reshape(number, -1) if facts["style input"] else None)


class _Inputs(NamedTuple):
  """Names of what both kinds of graphs read: units, their mask, style rows and the three scales."""

  units: str
  valid: str
  condition: str | None
  noise: str
  length: str
  duration_noise: str


class _Layout(NamedTuple):
  """Begin and end of every unit in frames, float [1, 1, U], and places of frames [1, T, 1]."""

  begins: str
  ends: str
  time: str


def program_of(network: UnitToSpeech | UnitHiFiGAN, facts: Mapping[str, Any]) -> Program:
  """Returns the joined program, compared without noise, which nothing else could draw.

  Args:
    network: of the vocoder.
    facts: its metadata, which holds the styles that `sid` chooses from.
  """
  styles = _Styles.of(facts)
  arrays, several = jax.tree.map(np.asarray, network), styles.number > 1

  def write(graph: Graph) -> None:
    samples = _write(graph, arrays, _inputs(graph, styles, several=several))
    graph("Unsqueeze", samples, np.array([1, 2], np.int64), output="output")

  inputs = {"input": Port("int64", (1, "U")), "input_lengths": Port("int64", (1,)), "scales": Port("float32", (3,))}
  inputs |= {"sid": Port("int64", (1,))} if several else {}
  case, heard = _case(network, styles, several=several)
  outputs = {"output": Port("float32", (1, 1, 1, "A"))}
  return Program(PIPER, inputs, outputs, write, [case], reference=lambda _: heard)


def config_of(facts: Mapping[str, Any]) -> str:
  """Returns Piper's config of a vocoder's metadata.

  Raises:
    UserError: more units than there are characters.
  """
  number, usual = facts["codebook_size"], {"noise": 0.667, "length": 1.0, "duration_noise": 0.8} | facts["delivery"]
  if number > _MOST_UNITS:
    raise UserError(
      f"{number} units",
      where="export for Piper",
      rule=f"every unit is a character of a plane that has {_MOST_UNITS}",
      remedy="export the two graphs instead, and call them with ids",
    )
  characters = {chr(FIRST_CHARACTER + unit): [unit] for unit in range(number)}
  config = {
    "audio": {"sample_rate": facts["sample_rate"], "quality": "units"},
    "espeak": {"voice": "en-us"},  # asked for, never used: the phonemes are characters
    "phoneme_type": "text",
    "phoneme_id_map": {"^": [], "$": [], "_": []} | characters,
    "num_symbols": number,
    "num_speakers": max(len(facts["styles"]), 1),
    "speaker_id_map": {name: row for row, name in enumerate(facts["styles"])},
    "inference": {
      "noise_scale": usual["noise"], "length_scale": usual["length"], "noise_w": usual["duration_noise"],
    },
    "hop_length": facts["hop"],
  }  # fmt: skip
  return json.dumps(config, indent=1) + "\n"


def _inputs(graph: Graph, styles: _Styles, *, several: bool) -> _Inputs:
  length = graph("Squeeze", graph.slice(graph("Shape", "input"), 1, 2, axis=0))
  places = graph.reshape(graph("Range", np.int64(0), length, np.int64(1)), 1, -1)
  valid = graph("Cast", graph("Less", places, graph.reshape("input_lengths", -1, 1)), to=_FLOAT)
  noise, stretch, duration_noise = graph.split("scales", (1, 1, 1), axis=0)
  condition = None
  if styles.rows is not None:
    first = graph("Mul", "input_lengths", np.int64(0))  # the only style, for every row of the batch
    condition = graph("Gather", styles.rows, "sid" if several else first)
  return _Inputs("input", valid, condition, noise, stretch, duration_noise)


def _write(graph: Graph, model: UnitToSpeech | UnitHiFiGAN, given: _Inputs) -> str:
  if isinstance(model, UnitHiFiGAN):
    return _write_hifigan(graph, model, given)
  return _write_unit_to_speech(graph, model, given)


def _write_hifigan(graph: Graph, model: UnitHiFiGAN, given: _Inputs) -> str:
  frames = unit_hifigan_onnx.write_frames(graph, model, given.units, given.valid)
  counts = graph("Max", graph("Round", graph("Mul", frames, given.length)), 1.0)
  layout = _lay_out(graph, graph("Mul", counts, given.valid))
  over = graph("Cast", graph("LessOrEqual", layout.ends, layout.time), to=_INT64)
  index = graph("ReduceSum", over, np.array([2], np.int64), keepdims=0)
  last = graph("Sub", graph("Squeeze", graph.slice(graph("Shape", given.units), 1, 2, axis=0)), np.int64(1))
  units = graph("GatherElements", given.units, graph("Min", index, last), axis=1)
  speaker = None if given.condition is None else graph.reshape(graph("Cast", given.condition, to=_INT64), -1)
  return unit_hifigan_onnx.write_sound(graph, model, units, speaker=speaker)


def _write_unit_to_speech(graph: Graph, model: UnitToSpeech, given: _Inputs) -> str:
  shape = graph("Concat", graph("Shape", given.units), np.array([2], np.int64), axis=0)
  draws = graph("Mul", graph("RandomNormalLike", graph("ConstantOfShape", shape)), given.duration_noise)
  prior, frames = unit_to_speech_onnx.write_units(
    graph, model, given.units, valid=given.valid, condition=given.condition, noise=draws
  )
  layout = _lay_out(graph, graph("Ceil", graph("Mul", frames, given.length)))
  after_begin = graph("LessOrEqual", layout.begins, layout.time)
  path = graph("Cast", graph("And", after_begin, graph("Less", layout.time, layout.ends)), to=_FLOAT)
  mean, log_deviation = graph("MatMul", path, prior.mean), graph("MatMul", path, prior.log_deviation)
  draws = graph("Mul", graph("RandomNormalLike", mean), given.noise)
  latents = graph("Add", mean, graph("Mul", draws, graph("Exp", log_deviation)))
  return unit_to_speech_onnx.write_sound(graph, model, latents, condition=given.condition)


def _lay_out(graph: Graph, counts: str) -> _Layout:
  """Returns where the units are in time; an utterance without a frame gets one that belongs to no unit."""
  ends = graph("CumSum", counts, np.int64(1))
  total = graph("Cast", graph("Max", graph("ReduceMax", ends, keepdims=0), 1.0), to=_INT64)
  time = graph("Cast", graph("Range", np.int64(0), total, np.int64(1)), to=_FLOAT)
  axis = np.array([1], np.int64)
  begins = graph("Unsqueeze", graph("Sub", ends, counts), axis)
  return _Layout(begins, graph("Unsqueeze", ends, axis), graph.reshape(time, 1, -1, 1))


def _case(model: Any, styles: _Styles, *, several: bool) -> tuple[Arrays, Arrays]:
  units = np.random.default_rng(0).integers(0, model.config.codebook_size, (1, _LENGTH))
  sid = np.array([styles.number // 2])
  rows = None if styles.rows is None else styles.rows[sid]
  heard = _in_jax(model, units.astype(np.int32), rows)
  inputs = {"input": units, "input_lengths": np.array([_LENGTH])}
  inputs["scales"] = np.array([0.0, heard.length, 0.0], np.float32)
  return inputs | ({"sid": sid} if several else {}), {"output": heard.samples[:, None, None]}


class _Heard(NamedTuple):
  """Samples [B, A] of JAX and the factor of durations that they were made with."""

  samples: np.ndarray
  length: float


def _in_jax(model: Any, units: np.ndarray, rows: np.ndarray | None) -> _Heard:
  kind = unit_hifigan_onnx if isinstance(model, UnitHiFiGAN) else unit_to_speech_onnx
  valid = np.ones(units.shape, np.float32)
  given = {"units": units, "valid": valid, "condition": rows, "noise": np.zeros((*units.shape, 2), np.float32)}
  known = jax.tree.map(np.asarray, jax.jit(kind.units_function)(model, given))
  length = _clear_length(known["frames"])
  exact = known["frames"] * length
  counts = np.maximum(np.round(exact), 1) if kind is unit_hifigan_onnx else np.ceil(exact)
  counts = counts.astype(int)
  laid = {name: _repeat(value, counts) for name, value in (known | {"units": units}).items()}
  sounding = {"units": laid["units"], "latents": laid.get("mean"), "condition": rows}
  sounding["speaker"] = None if rows is None else rows[:, 0].astype(np.int32)
  return _Heard(np.asarray(jax.jit(kind.sound_function)(model, sounding)["waveform"]), length)


def _repeat(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
  """Returns [1, T, ...] of [1, U, ...]."""
  return np.repeat(values[0], counts[0], axis=0)[None]


def _clear_length(frames: np.ndarray) -> float:
  """Returns a factor of durations near 1 that brings none so close to a half or a whole that rounding decides."""
  lengths = 1.0 + 0.01 * np.arange(32)
  twice = 2.0 * frames[..., None] * lengths
  apart = np.abs(twice - np.round(twice)).reshape(-1, len(lengths))
  return float(lengths[np.where(apart == 0, 1.0, apart).min(0).argmax()])
