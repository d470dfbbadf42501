"""The inverse-STFT vocoder as one ONNX graph: `units` int64 [U] and `style` int64 [3] in, `waveform` float32 [A] out.

Written node by node in the order of `speech/vocoder.py`, `frames.py`, `source.py` and `istft.py`; durations, layout in
time and the summing of phase are inside, so a runtime needs no code of ours.
"""

from typing import Any

import jax
import numpy as np

from omni_jax.core.styles import ALL_STYLES, EMOTIONS, GENDERS, PITCHES, Style
from omni_jax.export.onnx_graph import Graph
from omni_jax.export.programs import WHOLE, Arrays, Port, Program, power_distance, style_facts
from omni_jax.speech import frames, istft, source, vocoder

# Root mean square of the difference over that of the sound: -40 dB. F0 is integrated into phase, and with it the
# rounding of the two runtimes; measured 3e-3 with random weights.
TOLERANCE = 1e-2


def facts_of(model: vocoder.Vocoder) -> dict[str, Any]:
  """Returns the metadata of the vocoder."""
  config, indices = model.config, np.array([style.indices for style in ALL_STYLES])
  return {
    "kind": "source_filter",
    "sample_rate": istft.SAMPLE_RATE,
    "hop": istft.HOP,
    "codebooks": 1,
    "codebook_size": config.codebook_size,
    "units": {"first": 0, "number": config.codebook_size, "row of the first": 0},
    "context of units": [config.units_behind, config.units_ahead],
    "context": config.frames_around,
    "durations": None,
    "delivery": {},
    **style_facts([str(style) for style in ALL_STYLES], indices, port="style"),
  }


def programs_of(model: vocoder.Vocoder) -> list[Program]:
  """Returns the one program, compared by several lengths and styles."""
  inputs, outputs = (
    {"units": Port("int64", ("U",)), "style": Port("int64", (3,))},
    {"waveform": Port("float32", ("A",))},
  )
  cases, generator = [], np.random.default_rng(0)
  for length, style in zip((1, 7, 30, 61), ALL_STYLES[1::6], strict=True):
    units = np.cumsum(generator.integers(1, model.config.codebook_size, length)) % model.config.codebook_size
    cases.append({"units": units, "style": np.array(style.indices, np.int64)})

  def reference(case: Arrays) -> Arrays:
    return {"waveform": model.decode(case["units"].astype(np.int32), Style.from_indices(*case["style"]))}

  return [
    Program(
      WHOLE,
      inputs,
      outputs,
      lambda graph: write(graph, model),
      cases,
      reference=reference,
      tolerance=TOLERANCE,
      distance=power_distance,
    )
  ]


def write(graph: Graph, model: Any) -> None:
  """Writes a vocoder, from `units` and `style` to `waveform`."""
  model = jax.tree.map(np.asarray, model)
  style = _style(graph)
  hidden, ends = _read(graph, model, style)
  x, num_frames = _lay_out(graph, model, hidden=hidden, ends=ends)
  for block in model.frames:
    x = _block(graph, block, x, style)
  x = _norm(graph, x, model.frame_norm)
  f0 = _pitch(graph, model, x, style)
  filters = graph("Add", graph("MatMul", x, model.filters[...]), model.filter_bias[...])
  filters = graph("Min", filters, vocoder.LOUDEST)
  bands = model.config.harmonic_bands
  harmonic, noise = graph.slice(filters, 0, bands, axis=1), graph.slice(filters, bands, None, axis=1)
  summed = graph(
    "Add",
    _filter(graph, _pulses(graph, f0), harmonic, num_bands=bands),
    _filter(graph, _noise(graph, num_frames), noise, num_bands=model.config.noise_bands),
  )
  samples = _overlap_add(graph, summed)
  end = graph("Add", graph("Mul", num_frames, np.int64(istft.HOP)), np.int64(istft.HOP // 2))
  start, axis = np.array([istft.HOP // 2], np.int64), np.array([0], np.int64)
  graph("Slice", samples, start, graph.reshape(end, 1), axis, output="waveform")


def _style(graph: Graph) -> str:
  parts = []
  for place, size in enumerate((len(GENDERS), len(EMOTIONS), len(PITCHES))):
    parts.append(graph("Gather", np.eye(size, dtype=np.float32), graph.slice("style", place, place + 1, axis=0)))
  return graph("Concat", *parts, axis=1)


def _norm(graph: Graph, x: str, norm: Any) -> str:
  power = graph("ReduceMean", graph("Mul", x, x), axes=[-1], keepdims=1)
  return graph("Mul", graph("Div", x, graph("Sqrt", graph("Add", power, norm.eps))), norm.scale[...])


def _silu(graph: Graph, x: str) -> str:
  return graph("Mul", x, graph("Sigmoid", x))


def _block(graph: Graph, block: Any, x: str, style: str) -> str:
  before, after = max(0, -min(block.taps)), max(0, max(block.taps))
  padded = graph("Pad", _norm(graph, x, block.norm), np.array([before, 0, after, 0], np.int64))
  columns = [graph.slice(padded, before + tap, (tap - after) or None, axis=0) for tap in block.taps]
  mixed = graph("MatMul", graph("Concat", *columns, axis=1), block.input[...])
  bias = graph("Add", graph("MatMul", style, block.style[...]), block.bias[...])
  return graph("Add", x, graph("MatMul", _silu(graph, graph("Add", mixed, bias)), block.output[...]))


def _read(graph: Graph, model: Any, style: str) -> tuple[str, str]:
  """Returns hidden states [U, N] and the frame at which each unit ends, int64 [U]."""
  rest, first, parts = "units", 0, []
  for level in model.config.levels:
    rows = model.digit[...][first : first + level]
    parts.append(graph("Gather", rows, graph("Mod", rest, np.int64(level))))
    rest, first = graph("Div", rest, np.int64(level)), first + level
  x = parts[0]
  for part in parts[1:]:
    x = graph("Add", x, part)
  x = graph("MatMul", _silu(graph, x), model.mix[...])
  x = graph("Add", x, graph("Gather", model.whole[...], "units"))
  for block in model.units:
    x = _block(graph, block, x, style)
  x = _norm(graph, x, model.unit_norm)
  raw = graph("Add", graph("MatMul", x, model.duration[...]), vocoder.DURATION_OFFSET)
  durations = graph.reshape(graph("Add", graph("Softplus", raw), vocoder.LEAST_DURATION), -1)
  return graph("MatMul", x, model.narrow[...]), _ends(graph, durations)


def _ends(graph: Graph, durations: str) -> str:
  """Returns what `frames.FrameClock` counts: 2 u + the running maximum of round(exact) - 2 u."""
  exact = graph("Mul", graph("Cast", durations, to=_DOUBLE), np.float64(frames.FRAMES_PER_UNIT))
  exact = graph("CumSum", exact, np.int64(0))
  number = graph("Squeeze", graph("Shape", durations))
  places = graph("Range", np.int64(0), number, np.int64(1))
  least = graph("Mul", graph("Add", places, np.int64(1)), np.int64(frames.FEWEST_FRAMES))
  over = graph("Max", graph("Sub", graph("Cast", graph("Round", exact), to=_INT64), least), np.int64(0))
  earlier = graph("LessOrEqual", graph.reshape(places, 1, -1), graph.reshape(places, -1, 1))
  rows = graph("Where", earlier, graph.reshape(over, 1, -1), np.int64(0))
  return graph("Add", graph("ReduceMax", rows, axes=[1], keepdims=0), least)


def _lay_out(graph: Graph, model: Any, *, hidden: str, ends: str) -> tuple[str, str]:
  """Returns states [T, D] of frames and the number of frames, int64 []."""
  num_frames = graph("Squeeze", graph.slice(ends, -1, None, axis=0))
  time = graph("Range", np.int64(0), num_frames, np.int64(1))
  over = graph("LessOrEqual", graph.reshape(ends, 1, -1), graph.reshape(time, -1, 1))
  unit = graph("ReduceSum", graph("Cast", over, to=_INT64), np.array([1], np.int64), keepdims=0)
  begins = graph("Concat", np.zeros(1, np.int64), graph.slice(ends, 0, -1, axis=0), axis=0)
  since = graph("Sub", time, graph("Gather", begins, unit))
  until = graph("Sub", graph("Sub", graph("Gather", ends, unit), time), np.int64(1))
  x = graph("Gather", hidden, unit)
  last = np.int64(model.config.places - 1)
  for rows, distance in ((model.since, since), (model.until, until)):
    x = graph("Add", x, graph("Gather", rows[...], graph("Min", distance, last)))
  return x, num_frames


def _pitch(graph: Graph, model: Any, x: str, style: str) -> str:
  octaves = graph("Add", graph("MatMul", x, model.pitch[...]), graph("MatMul", style, model.pitch_style[...]))
  low, high = np.float32(-vocoder.WIDEST_OCTAVES), np.float32(vocoder.WIDEST_OCTAVES)
  hz = graph("Mul", graph("Pow", 2.0, graph("Clip", octaves, low, high)), vocoder.REFERENCE_HZ)
  return graph("Clip", graph.reshape(hz, -1), np.float32(vocoder.LOWEST_HZ), np.float32(vocoder.HIGHEST_HZ))


def _pulses(graph: Graph, f0: str) -> str:
  """Returns (T + 1) hops of pulses, as `source.pulses` from phase zero."""
  controls = graph("Concat", graph.slice(f0, 0, 1, axis=0), f0, graph.slice(f0, -1, None, axis=0), axis=0)
  start, end = graph.slice(controls, 0, -1, axis=0), graph.slice(controls, 1, None, axis=0)
  turns = graph("Mul", graph("Add", start, end), 0.5 * istft.HOP / istft.SAMPLE_RATE)
  parts = graph("Mul", graph("Sub", turns, graph("Floor", turns)), float(source.TICKS))
  ticks = graph("Cast", graph("Round", parts), to=_INT64)
  summed = graph("Mod", graph("CumSum", ticks, np.int64(0), exclusive=1), np.int64(source.TICKS))
  phases = graph("Div", graph("Cast", summed, to=_FLOAT), float(source.TICKS))
  steps = np.arange(istft.HOP, dtype=np.float32)[None]
  slope = graph.reshape(graph("Div", graph("Sub", end, start), float(istft.HOP)), -1, 1)
  column = graph.reshape(start, -1, 1)
  bent = graph("Add", graph("Mul", column, steps), graph("Mul", slope, 0.5 * steps**2))
  inside = graph("Div", bent, float(istft.SAMPLE_RATE))
  hz = graph("Add", column, graph("Mul", slope, steps))
  return _pulse(graph, graph("Add", graph.reshape(phases, -1, 1), inside), hz)


def _pulse(graph: Graph, phase: str, hz: str) -> str:
  number = graph("Div", source.HIGHEST_HARMONIC_HZ, hz)
  whole = graph("Floor", number)
  offset = graph("Sub", phase, graph("Round", phase))
  angle = graph("Mul", offset, float(np.pi))
  below = graph("Sin", angle)
  safe = graph("Greater", graph("Abs", below), 1e-4)
  above = graph("Sin", graph("Mul", graph("Add", graph("Mul", whole, 2.0), 1.0), angle))
  kernel = graph("Sub", graph("Div", above, graph("Mul", graph("Where", safe, below, 1.0), 2.0)), 0.5)
  order = graph("Mul", graph("Add", whole, 1.0), 2.0)
  highest = graph("Mul", graph("Sub", number, whole), graph("Cos", graph("Mul", order, angle)))
  total = graph("Add", graph("Where", safe, kernel, whole), highest)
  return graph("Mul", total, graph("Sqrt", graph("Div", 2.0, number)))


def _noise(graph: Graph, num_frames: str) -> str:
  number = graph("Mul", graph("Add", num_frames, np.int64(1)), np.int64(istft.HOP))
  places = graph("Mod", graph("Range", np.int64(0), number, np.int64(1)), np.int64(source.NOISE_SAMPLES))
  return graph.reshape(graph("Gather", source.noise_table(), places), -1, istft.HOP)


def _filter(graph: Graph, segments: str, bands: str, *, num_bands: int) -> str:
  """Returns filtered frames [T, FFT] of an excitation [T + 1, HOP], as `istft.filter_excitation`."""
  windows = graph("Concat", graph.slice(segments, 0, -1, axis=0), graph.slice(segments, 1, None, axis=0), axis=1)
  spectrum = graph("MatMul", windows, istft.analysis_matrix())
  real, imaginary = graph.slice(spectrum, 0, istft.BINS, axis=1), graph.slice(spectrum, istft.BINS, None, axis=1)
  log_magnitude = graph("MatMul", bands, istft.band_matrix(num_bands))
  magnitude, phase = graph("Exp", log_magnitude), graph("MatMul", log_magnitude, istft.phase_matrix())
  cosine, sine = (graph("Mul", magnitude, graph(wave, phase)) for wave in ("Cos", "Sin"))
  out_real = graph("Sub", graph("Mul", real, cosine), graph("Mul", imaginary, sine))
  out_imaginary = graph("Add", graph("Mul", real, sine), graph("Mul", imaginary, cosine))
  return graph("MatMul", graph("Concat", out_real, out_imaginary, axis=1), istft.synthesis_matrix())


def _overlap_add(graph: Graph, x: str) -> str:
  hops = -(-istft.FFT // istft.HOP)
  padded = graph("Pad", x, np.array([0, 0, 0, hops * istft.HOP - istft.FFT], np.int64))
  total = ""
  for hop in range(hops):
    part = graph.slice(padded, hop * istft.HOP, (hop + 1) * istft.HOP, axis=1)
    shifted = graph("Pad", part, np.array([hop, 0, hops - 1 - hop, 0], np.int64))
    total = graph("Add", total, shifted) if total else shifted
  return graph.reshape(total, -1)


# onnx.TensorProto.FLOAT, INT64, DOUBLE; written out so that this module imports without onnx.
_FLOAT, _INT64, _DOUBLE = 1, 7, 11
