"""The inverse-STFT vocoder (`speech/vocoder.py`) as two programs.

    units    `units` int64 [1, U], `style` int64 [3]
             -> `f0` [1, T] in Hz, `phase` float64 [1, T] in cycles, `harmonic` [1, T, K], `noise` [1, T, J]
    sound    these four of some frames, `first` int64 [1]    -> `waveform` [1, T * hop]

Durations, layout in time and the summing of phase are in the first, so that a runtime hands its outputs on as they are:
all at once, or a piece after the other with `context` frames on both sides, which gives the same samples. `first` is
the number of the first frame, which the noise follows. Phase is not wrapped, so that a difference of two runtimes is
small wherever it lies. Written node by node in the order of `speech/vocoder.py`, `frames.py`, `source.py`, `istft.py`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.core.styles import ALL_STYLES, EMOTIONS, GENDERS, PITCHES
from omni_jax.export.onnx_graph import Graph
from omni_jax.export.programs import SOUND, UNITS, Arrays, Port, Program, power_distance, style_facts
from omni_jax.speech import frames, istft, source, vocoder

# Root mean square of the difference over that of the sound; measured 2e-5 with random weights.
TOLERANCE = 1e-3


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
    "context": max(frames.FRAMES_BEFORE, frames.FRAMES_AFTER),
    "durations": None,
    "delivery": {},
    **style_facts([str(style) for style in ALL_STYLES], indices, port="style"),
  }


def programs_of(model: vocoder.Vocoder) -> list[Program]:
  """Returns the programs, compared by several lengths and styles."""
  voiced = {"f0": Port("float32", (1, "T")), "phase": Port("float64", (1, "T"))}
  voiced["harmonic"] = Port("float32", (1, "T", model.config.harmonic_bands))
  voiced["noise"] = Port("float32", (1, "T", model.config.noise_bands))
  cases, generator = [], np.random.default_rng(0)
  for length, style in zip((1, 7, 30, 61), ALL_STYLES[1::6], strict=True):
    units = np.cumsum(generator.integers(1, model.config.codebook_size, length)) % model.config.codebook_size
    cases.append({"units": units[None], "style": np.array(style.indices, np.int64)})

  def read(case: Arrays) -> Arrays:
    return _read_by_jax(model, case["units"].astype(np.int32), case["style"].astype(np.int32)[None])

  heard = [dict(read(case)) | {"first": np.array([first])} for case, first in zip(cases, (0, 9, 700, 3), strict=True)]
  arrays, units = jax.tree.map(np.asarray, model), {"units": Port("int64", (1, "U")), "style": Port("int64", (3,))}
  waveform = {"waveform": Port("float32", (1, "A"))}
  return [
    Program(UNITS, units, voiced, lambda graph: write_units(graph, arrays), cases, reference=read),
    Program(
      SOUND,
      voiced | {"first": Port("int64", (1,))},
      waveform,
      lambda graph: write_sound(graph, arrays.config),
      heard,
      reference=_sound_by_jax,
      tolerance=TOLERANCE,
      distance=power_distance,
    ),
  ]


def write_units(graph: Graph, model: Any) -> None:
  """Writes the first program."""
  style = _style(graph)
  hidden, ends = _read(graph, model, style)
  x = _lay_out(graph, model, hidden=hidden, ends=ends)
  for block in model.frames:
    x = _block(graph, block, x, style)
  x = _norm(graph, x, model.frame_norm)
  f0 = _pitch(graph, model, x, style)
  filters = graph("Add", graph("MatMul", x, model.filters[...]), model.filter_bias[...])
  filters = graph("Min", filters, vocoder.LOUDEST)
  bands = model.config.harmonic_bands
  harmonic, noise = graph.slice(filters, 0, bands, axis=1), graph.slice(filters, bands, None, axis=1)
  for name, value in {"f0": f0, "phase": _phase(graph, f0), "harmonic": harmonic, "noise": noise}.items():
    graph("Unsqueeze", value, _FIRST_AXIS, output=name)


def write_sound(graph: Graph, config: vocoder.VocoderConfig) -> None:
  """Writes the second program."""
  f0, phase, harmonic, noise = (graph("Squeeze", name, _FIRST_AXIS) for name in ("f0", "phase", "harmonic", "noise"))
  num_frames = graph("Squeeze", graph("Shape", f0))
  summed = graph(
    "Add",
    _filter(graph, _pulses(graph, f0, phase), harmonic, num_bands=config.harmonic_bands),
    _filter(graph, _noise(graph, num_frames), noise, num_bands=config.noise_bands),
  )
  samples = _overlap_add(graph, summed)
  end = graph("Add", graph("Mul", num_frames, np.int64(istft.HOP)), np.int64(istft.HOP // 2))
  cut = graph("Slice", samples, np.array([istft.HOP // 2], np.int64), graph.reshape(end, 1), _FIRST_AXIS)
  graph("Unsqueeze", cut, _FIRST_AXIS, output="waveform")


def _read_by_jax(model: vocoder.Vocoder, units: np.ndarray, styles: np.ndarray) -> Arrays:
  """Returns the outputs of the first program."""
  read = jax.jit(lambda model, *given: model.read(*given))(model, units, np.ones(units.shape, np.float32), styles)
  counts = frames.FrameClock().counts(np.asarray(read.durations)[0])
  layout = frames.lay_out(jnp.asarray(counts)[None], jnp.zeros(1, jnp.int32), int(counts.sum()))
  found = jax.jit(lambda model, *given: model.shape(*given))(model, read.hidden, layout, styles)
  f0, harmonic, noise = map(np.asarray, found)
  turns = 0.5 * istft.HOP / istft.SAMPLE_RATE * (np.pad(f0, ((0, 0), (1, 0)), mode="edge")[:, :-1] + f0)
  return {"f0": f0, "phase": np.cumsum(turns.astype(np.float64), axis=1), "harmonic": harmonic, "noise": noise}


def _sound_by_jax(case: Arrays) -> Arrays:
  """Returns the output of the second program."""
  phase = (case["phase"] % 1.0).astype(np.float32)
  voiced = frames.VoicedFrames(*map(jnp.asarray, (case["f0"], phase, case["harmonic"], case["noise"])))
  samples = frames.speak(voiced, jnp.ones(phase.shape), first=jnp.asarray(case["first"], jnp.int32))
  return {"waveform": np.asarray(samples)}


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
  units = rest = graph("Squeeze", "units", _FIRST_AXIS)
  first, parts = 0, []
  for level in model.config.levels:
    rows = model.digit[...][first : first + level]
    parts.append(graph("Gather", rows, graph("Mod", rest, np.int64(level))))
    rest, first = graph("Div", rest, np.int64(level)), first + level
  x = parts[0]
  for part in parts[1:]:
    x = graph("Add", x, part)
  x = graph("MatMul", _silu(graph, x), model.mix[...])
  x = graph("Add", x, graph("Gather", model.whole[...], units))
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


def _lay_out(graph: Graph, model: Any, *, hidden: str, ends: str) -> str:
  """Returns states [T, D] of frames."""
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
  return x


def _pitch(graph: Graph, model: Any, x: str, style: str) -> str:
  octaves = graph("Add", graph("MatMul", x, model.pitch[...]), graph("MatMul", style, model.pitch_style[...]))
  low, high = np.float32(-vocoder.WIDEST_OCTAVES), np.float32(vocoder.WIDEST_OCTAVES)
  hz = graph("Mul", graph("Pow", 2.0, graph("Clip", octaves, low, high)), vocoder.REFERENCE_HZ)
  return graph("Clip", graph.reshape(hz, -1), np.float32(vocoder.LOWEST_HZ), np.float32(vocoder.HIGHEST_HZ))


def _phase(graph: Graph, f0: str) -> str:
  """Returns cycles, float64 [T], at the centres of frames; F0 before the first is as there, and the phase zero."""
  before = graph("Concat", graph.slice(f0, 0, 1, axis=0), graph.slice(f0, 0, -1, axis=0), axis=0)
  turns = graph("Mul", graph("Add", before, f0), 0.5 * istft.HOP / istft.SAMPLE_RATE)
  return graph("CumSum", graph("Cast", turns, to=_DOUBLE), np.int64(0))


def _pulses(graph: Graph, f0: str, phase: str) -> str:
  """Returns (T + 1) hops of pulses, as `source.pulses`."""
  controls = graph("Concat", graph.slice(f0, 0, 1, axis=0), f0, graph.slice(f0, -1, None, axis=0), axis=0)
  start, end = graph.slice(controls, 0, -1, axis=0), graph.slice(controls, 1, None, axis=0)
  wrapped = graph("Cast", graph("Mod", phase, np.float64(1.0), fmod=1), to=_FLOAT)
  phases = graph("Concat", np.zeros(1, np.float32), wrapped, axis=0)
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
  start = graph("Mul", "first", np.int64(istft.HOP))
  steps = graph("Add", graph("Range", np.int64(0), number, np.int64(1)), start)
  places = graph("Mod", steps, np.int64(source.NOISE_SAMPLES))
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
_FIRST_AXIS = np.array([0], np.int64)
