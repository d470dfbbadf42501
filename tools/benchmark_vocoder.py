"""Speed of every vocoder on one CPU thread: ours in JAX, its exported file in onnxruntime, and torch eager.

All routes of a vocoder have the same random weights at full size and the same inputs, run in turn in one process that
is bound to one core, in float32; that they sound the same is asserted first. Torch is transformers' VITS for EMOVA's
model, and for the others the modules that the tests compare with. `piper medium` is the generator of Piper's voices of
medium quality, a peer of another size. Prints CPU seconds, medians over rounds: wall time on a shared machine says
little, and ratios say most. `x real time` is CPU seconds for a second of sound.

    python tools/benchmark_vocoder.py [--seconds 10] [--rounds 3] [--only snac]
"""

import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
sys.path.insert(0, str(Path(__file__).parents[1]))  # of configs and tests, which no installation brings

import jax  # noqa: E402  (after the flags that it reads)
import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

from configs.emova.vocoder_filters import MODEL as SOURCE_FILTER  # noqa: E402
from configs.mini_omni.snac import TINY as SNAC_TINY  # noqa: E402
from configs.speechgpt.unit_vocoder import TINY as UNIT_HIFIGAN_TINY  # noqa: E402
from omni_jax.convert.hifigan import hifigan_rules  # noqa: E402
from omni_jax.convert.snac import snac_rules  # noqa: E402
from omni_jax.convert.table import export_tensors  # noqa: E402
from omni_jax.convert.unit_hifigan import read_config, unit_hifigan_rules  # noqa: E402
from omni_jax.convert.unit_to_speech import TRANSFORMERS_NAMES, export_unit_to_speech  # noqa: E402
from omni_jax.core import trees  # noqa: E402
from omni_jax.core.styles import Style  # noqa: E402
from omni_jax.export import unit_hifigan_onnx, unit_to_speech_onnx  # noqa: E402
from omni_jax.export.onnx_graph import Graph  # noqa: E402
from omni_jax.export.onnx_layers import hifigan, to_pictures  # noqa: E402
from omni_jax.export.programs import SOUND, Port  # noqa: E402
from omni_jax.export.vocoder import export_onnx  # noqa: E402
from omni_jax.nn.weight_norm import fold_model  # noqa: E402
from omni_jax.speech.hifigan import HiFiGANConfig  # noqa: E402
from omni_jax.speech.snac import SNAC_24KHZ  # noqa: E402
from omni_jax.speech.unit_to_speech import EMOVA_UNIT_TO_SPEECH, UnitToSpeech  # noqa: E402
from omni_jax.speech.unit_voice import UnitVoice  # noqa: E402
from tests.convert.test_unit_hifigan import SPEECH_GPT  # noqa: E402
from tests.runtime.speakers import load_runtime  # noqa: E402
from tests.speech.drawn import drawn_model  # noqa: E402
from tests.speech.torch_hifigan import TorchHiFiGAN  # noqa: E402
from tests.speech.torch_snac import TorchSNAC  # noqa: E402
from tests.speech.torch_unit_hifigan import TorchUnitHiFiGAN  # noqa: E402

CHUNK = 43  # frames of a first piece: half a second of EMOVA's voice, 0.86 s of SpeechGPT's
PIPER_MEDIUM = HiFiGANConfig(
  inputs=192, width=256, rates=(8, 8, 4), taps=(16, 16, 8), residual="2", block_taps=(3, 5, 7),
  block_dilations=((1, 2), (2, 6), (3, 12)), normed_ends=False, last_bias=False,
)  # fmt: skip
Route = Callable[[], np.ndarray]


class Task(NamedTuple):
  """One thing to compute: `seconds` of sound by several routes, the first of which all others must equal."""

  name: str
  seconds: float
  routes: dict[str, Route]
  tolerance: float = 1e-3


def main() -> None:
  """Runs the tasks, prints a row for each route, and then first pieces of streams."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--seconds", type=float, default=10.0)
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--only", default="", help="tasks whose name holds this")
  arguments = parser.parse_args()
  torch.set_num_threads(1)
  print(f"one thread, float32, {arguments.seconds:.0f} s of sound, medians of {arguments.rounds} rounds")
  print(f"{'task':<34} {'route':<12} {'CPU s':>8} {'x real time':>12} {'to torch':>9} {'apart':>9}")
  with tempfile.TemporaryDirectory() as folder:
    for make in (source_filter, hifigan_piper, unit_hifigan, unit_to_speech, snac, training):
      if arguments.only in make.__name__:
        for task in make(arguments.seconds, Path(folder)):
          report(task, arguments.rounds)


def report(task: Task, rounds: int) -> None:
  """Prints the rows of a task."""
  first, *others = made = [np.asarray(route()) for route in task.routes.values()]
  peak = np.abs(first).max()
  apart = [0.0] + [float(np.abs(other - first).max() / peak) for other in others]
  assert len(made) == 1 or max(apart) < task.tolerance, f"{task.name}: routes differ by {max(apart):.1e} of the peak"
  times: dict[str, list[float]] = {name: [] for name in task.routes}
  for _ in range(rounds):
    for name, route in task.routes.items():
      start = time.process_time()
      route()
      times[name].append(time.process_time() - start)
  for (name, each), distance in zip(times.items(), apart, strict=True):
    own = statistics.median(each)
    peer = f"{own / statistics.median(times['torch']):.2f}" if "torch" in times else "-"
    told = f"{own:8.3f} {own / task.seconds:12.4f} {peer:>9} {distance:9.1e}"
    print(f"{task.name:<34} {name:<12} {told}", flush=True)


def source_filter(seconds: float, folder: Path) -> Iterator[Task]:
  """The inverse-STFT vocoder at the size of the tiny journey, from units; and its stream."""
  model, style = drawn_model(SOURCE_FILTER), Style("female", "happy", "high")
  steps = np.random.default_rng(0).integers(1, model.config.codebook_size, round(16 * seconds))
  units = (np.cumsum(steps) % model.config.codebook_size).astype(np.int32)
  export_onnx(model, folder / "source_filter")
  voice = load_runtime().Voice(str(folder / "source_filter"))
  bind(voice, folder / "source_filter")
  length = len(model.decode(units, style)) / model.sample_rate
  routes = {"jax": lambda: model.decode(units, style), "onnxruntime": lambda: next(voice.pieces(units, str(style)))}
  # F0 is integrated into phase, and with it what the two runtimes round.
  yield Task("source-filter, units to wave", length, routes, tolerance=0.5)

  def first_piece() -> np.ndarray:
    stream = model.stream(style)
    for unit in units:
      if len(piece := stream.push(np.array([unit]))):
        return piece
    return stream.finish()

  yield Task("source-filter, first piece (jax)", len(first_piece()) / model.sample_rate, {"jax": first_piece})
  routes = {"onnxruntime": lambda: next(voice.pieces(units, str(style), frames=CHUNK))}
  yield Task("source-filter, first piece (ort)", CHUNK / 100, routes)


def hifigan_piper(seconds: float, folder: Path) -> Iterator[Task]:
  """The generator of Piper's medium voices alone."""
  del folder
  model = drawn_model(PIPER_MEDIUM)
  x = normal(1, round(seconds * 22_050 / model.config.hop), PIPER_MEDIUM.inputs)
  graph = Graph()
  samples = hifigan(graph, to_pictures(graph, "x"), jax.tree.map(np.asarray, model), condition=None)
  graph("Identity", samples, output="waveform")
  sizes = ("B", "T", PIPER_MEDIUM.inputs)
  written = graph.model(inputs={"x": Port("float32", sizes)}, outputs={"waveform": Port("float32", ("B", "A"))})
  session, twin = open_session(written.SerializeToString()), TorchHiFiGAN(PIPER_MEDIUM)
  filled(twin, export_tensors(hifigan_rules(PIPER_MEDIUM), trees.flatten(model)))
  folded = fold(model, dataclasses.replace(PIPER_MEDIUM, normed=False))
  run, turned = jax.jit(lambda model, x: model(x)), torch.from_numpy(x.swapaxes(1, 2).copy())
  routes = {
    "jax": lambda: np.asarray(run(folded, x)),
    "onnxruntime": lambda: session.run(None, {"x": x})[0],
    "torch": lambda: in_torch(lambda: twin(turned)),
  }
  yield Task("piper medium, latents to wave", seconds, routes)


def unit_hifigan(seconds: float, folder: Path) -> Iterator[Task]:
  """SpeechGPT's vocoder, from the unit of each frame; and its first piece from reduced units."""
  config = read_config(SPEECH_GPT)
  model, twin = drawn_model(config), TorchUnitHiFiGAN(config)
  filled(twin, export_tensors(unit_hifigan_rules(config), trees.flatten(model)))
  export_onnx(model, folder / "unit_hifigan")
  frames = np.random.default_rng(0).integers(0, config.codebook_size, (1, round(seconds * 50)))
  given = {"units": frames, "valid": np.ones(frames.shape, np.float32)}
  folded = fold(model, config.inference)

  def eager() -> torch.Tensor:
    return twin(twin.dict(torch.from_numpy(frames)).transpose(1, 2))

  routes = program_routes(unit_hifigan_onnx.sound_function, folded, given, folder / "unit_hifigan")
  yield Task("unit HiFi-GAN, frames to wave", seconds, routes | {"torch": lambda: in_torch(eager)})
  units = frames[0, : round(seconds * 25)].astype(np.int32)
  voice = load_runtime().Voice(str(folder / "unit_hifigan"))
  bind(voice, folder / "unit_hifigan")

  def first_piece() -> np.ndarray:
    stream = folded.stream(chunk_frames=CHUNK)
    for start in range(0, len(units), 16):
      if len(piece := stream.push(units[start : start + 16])):
        return piece
    return stream.finish()

  routes = {"onnxruntime": lambda: next(voice.pieces(units, frames=CHUNK))}
  yield Task("unit HiFi-GAN, first piece (ort)", len(routes["onnxruntime"]()) / config.sample_rate, routes)
  yield Task("unit HiFi-GAN, first piece (jax)", len(first_piece()) / config.sample_rate, {"jax": first_piece})


def unit_to_speech(seconds: float, folder: Path) -> Iterator[Task]:
  """EMOVA's model: units to prior and durations, latents to wave, and its first piece."""
  config = dataclasses.replace(
    EMOVA_UNIT_TO_SPEECH, voice=None, num_speakers=4,
    decoder=dataclasses.replace(EMOVA_UNIT_TO_SPEECH.decoder, normed=False),
  )  # fmt: skip
  model = drawn_model(config)
  folded, twin, stem = fold(model, config.inference), vits(model), folder / "unit_to_speech"
  export_onnx(model, stem)
  units = np.random.default_rng(0).integers(0, config.codebook_size, (1, round(seconds * 22)))
  condition, latent = normal(1, config.condition), config.flow.latent
  latents = normal(1, round(seconds * config.sample_rate / config.decoder.hop), latent)
  given = {"latents": latents, "valid": np.ones(latents.shape[:2], np.float32), "condition": condition}
  routes = program_routes(unit_to_speech_onnx.sound_function, folded, given, stem)
  turned, voice = torch.from_numpy(latents.swapaxes(1, 2).copy()), torch.from_numpy(condition)[..., None]

  def eager() -> torch.Tensor:
    mask = torch.ones(1, 1, turned.shape[2])
    flowed = twin.flow(turned, mask, global_conditioning=voice, reverse=True)
    return twin.decoder(flowed, voice)[:, 0]

  yield Task("EMOVA VITS, latents to wave", seconds, routes | {"torch": lambda: in_torch(eager)})
  ids, noise = torch.from_numpy(units + config.first_unit), normal(1, units.shape[1], 2)
  given = {"units": units, "valid": np.ones(units.shape, np.float32), "condition": condition, "noise": noise}
  routes = program_routes(unit_to_speech_onnx.units_function, folded, given, stem, part=".units", output="mean")

  def eager_units() -> torch.Tensor:
    mask = torch.ones(1, 1, units.shape[1])
    read = twin.text_encoder(ids, mask.transpose(1, 2), torch.ones(1, units.shape[1], dtype=torch.long))
    twin.duration_predictor(read.last_hidden_state.transpose(1, 2), mask, voice, reverse=True, noise_scale=0.8)
    return read.prior_means

  yield Task("EMOVA VITS, units to prior", seconds, routes | {"torch": lambda: in_torch(eager_units)})
  speaker, ours = load_runtime().Voice(str(stem)), UnitVoice(folded)
  bind(speaker, stem)
  for name, route in {
    "ort": lambda: next(speaker.pieces(units[0], "speaker-1", frames=CHUNK)),
    "jax": lambda: next(ours.pieces(units[0].astype(np.int32), condition[0], piece_frames=CHUNK)),
  }.items():
    yield Task(f"EMOVA VITS, first piece ({name})", CHUNK * ours.hop / ours.sample_rate, {name: route})


def snac(seconds: float, folder: Path) -> Iterator[Task]:
  """The decoder of SNAC, codes to wave."""
  model, twin = drawn_model(SNAC_24KHZ), TorchSNAC(SNAC_24KHZ)
  model.decoder.last.weight.gain.set_value(model.decoder.last.weight.gain[...] * 0.02)
  filled(twin, export_tensors(snac_rules(SNAC_24KHZ), trees.flatten(model)))
  export_onnx(model, folder / "snac")
  number = round(seconds * model.frame_rate)
  codes = np.random.default_rng(0).integers(0, model.codebook_size, (1, number, model.num_codebooks))
  given = {"units": codes, "valid": np.ones((1, number), np.float32), "first": np.zeros(1, np.int64)}
  folded = fold(model, SNAC_24KHZ.inference)

  def run(model: Any, given: dict[str, Any]) -> dict[str, Any]:
    return {"waveform": model.speak(given["units"], given["valid"], first=given["first"])}

  routes = program_routes(run, folded, given, folder / "snac")
  rows = [torch.from_numpy(row)[None].long() for row in model.by_quantizer(codes[0].astype(np.int32))]

  def eager() -> torch.Tensor:
    return twin.decode(rows, noises())

  def noises() -> list[torch.Tensor]:
    from omni_jax.speech.snac_layers import NOISE_APART
    from omni_jax.speech.source import noise_table

    table, length, made = noise_table(), number * SNAC_24KHZ.strides[0], []
    for stage, rate in enumerate(SNAC_24KHZ.decoder_rates):
      length *= rate
      places = (np.arange(length) + stage * NOISE_APART) % len(table)
      made.append(torch.from_numpy(table[places])[None, None])
    return made

  yield Task("SNAC, codes to wave", number / model.frame_rate, routes | {"torch": lambda: in_torch(eager)})


def training(seconds: float, folder: Path) -> Iterator[Task]:
  """Forward and backward of the mean square of what SNAC's encoder and decoder, and a HiFi-GAN, make."""
  del folder
  for name, config, rows in (("24 kHz", SNAC_24KHZ, 1), ("tiny", SNAC_TINY, 4)):
    config = dataclasses.replace(config, noise=False)
    model, twin = config.make(key=jax.random.key(0)), TorchSNAC(config)
    twin.load_state_dict(tensors_of(snac_rules(config), model))
    number = max(round(seconds / 10 * config.sample_rate / config.hop), 2)
    x = 0.1 * normal(rows, number * config.hop)

    def copy(model: Any, x: Any) -> Any:
      return model.decoder(model.encoder(x, None), None, first=np.zeros(x.shape[0], np.int32))

    def twin_copy(x: torch.Tensor, twin: TorchSNAC = twin) -> torch.Tensor:
      return twin.decoder.model(twin.encoder(x[:, None]))

    length = rows * number / model.frame_rate
    yield Task(f"SNAC {name}, training", length, step_routes(copy, twin_copy, model=model, twin=twin, x=x))
  config = UNIT_HIFIGAN_TINY.generator
  model, twin = config.make(key=jax.random.key(0)), TorchHiFiGAN(config)
  twin.load_state_dict(tensors_of(hifigan_rules(config), model))
  x = normal(4, round(seconds * 5), config.inputs)
  routes = step_routes(lambda model, x: model(x), lambda x: twin(x.swapaxes(1, 2)), model=model, twin=twin, x=x)
  yield Task("unit HiFi-GAN tiny, training", 4 * x.shape[1] * config.hop / 16_000, routes)


def step_routes(ours: Any, theirs: Any, *, model: Any, twin: torch.nn.Module, x: np.ndarray) -> dict[str, Route]:
  """Returns the gradients with respect to weights and input, of which the input's are compared."""
  step = jax.jit(jax.grad(lambda model, x: jax.numpy.square(ours(model, x)).mean(), argnums=(0, 1)))

  def run() -> np.ndarray:
    return np.asarray(jax.block_until_ready(step(model, x))[1])

  def eager() -> np.ndarray:
    twin.zero_grad()
    given = torch.from_numpy(x).requires_grad_()
    theirs(given).square().mean().backward()
    assert given.grad is not None, "the input has a gradient"
    return given.grad.numpy()

  return {"jax": run, "torch": eager}


def program_routes(
  function: Any, model: Any, given: dict[str, np.ndarray], stem: Path, *, part: str = SOUND, output: str = "waveform"
) -> dict[str, Route]:
  """Returns one program in JAX and as its file."""
  run, session = jax.jit(function), open_session(f"{stem}{part}.onnx")
  names = [port.name for port in session.get_outputs()]
  fed = {port.name: given[port.name] for port in session.get_inputs()}
  inputs = {name: value.astype(np.int32) if value.dtype == np.int64 else value for name, value in given.items()}
  return {
    "jax": lambda: np.asarray(run(model, inputs)[output]),
    "onnxruntime": lambda: session.run(None, fed)[names.index(output)],
  }


def vits(model: UnitToSpeech) -> transformers.VitsModel:
  """Returns transformers' VITS with the same weights."""
  config = model.config
  theirs = transformers.VitsModel(
    transformers.VitsConfig(
      vocab_size=config.encoder.vocab_size, hidden_size=config.encoder.width, num_hidden_layers=config.encoder.depth,
      num_attention_heads=config.encoder.num_heads, window_size=config.encoder.window, ffn_dim=config.encoder.mlp_dim,
      flow_size=config.flow.latent, num_speakers=config.num_speakers, speaker_embedding_size=config.condition,
      spectrogram_bins=config.posterior.bins, posterior_encoder_num_wavenet_layers=config.posterior.convolutions.depth,
      upsample_initial_channel=config.decoder.width, upsample_rates=list(config.decoder.rates),
      upsample_kernel_sizes=list(config.decoder.taps), resblock_kernel_sizes=list(config.decoder.block_taps),
      resblock_dilation_sizes=[list(each) for each in config.decoder.block_dilations],
      prior_encoder_num_flows=config.flow.depth, prior_encoder_num_wavenet_layers=config.flow.convolutions.depth,
      depth_separable_num_layers=config.durations.depth, duration_predictor_num_flows=config.durations.num_flows,
      duration_predictor_flow_bins=config.durations.bins,
    )
  )  # fmt: skip
  filled(theirs, export_unit_to_speech(model, names=TRANSFORMERS_NAMES))
  return theirs


def tensors_of(rules: Any, model: Any) -> dict[str, torch.Tensor]:
  """Returns the weights of a model by their names in torch."""
  return in_torch_form(export_tensors(rules, trees.flatten(model)))


def in_torch_form(tensors: dict[str, Any]) -> dict[str, torch.Tensor]:
  """Returns arrays as tensors of their own memory."""
  return {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}


def filled(module: torch.nn.Module, tensors: dict[str, Any]) -> None:
  """Gives a torch module its weights, folds weight norm where it has any, and ends training."""
  module.load_state_dict(in_torch_form(tensors))
  module.eval()
  for part in module.modules():
    if hasattr(part, "weight_g"):
      torch.nn.utils.remove_weight_norm(part)
    elif torch.nn.utils.parametrize.is_parametrized(part):
      torch.nn.utils.parametrize.remove_parametrizations(part, "weight")


def fold(model: Any, config: Any) -> Any:
  """Returns the model with every kernel as one array."""
  return fold_model(model, into=jax.eval_shape(lambda: config.make(key=jax.random.key(0))))


def open_session(source: Any) -> onnxruntime.InferenceSession:
  """Returns a session of one thread."""
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = options.inter_op_num_threads = 1
  return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def bind(voice: Any, stem: Path) -> None:
  """Replaces the sessions of the runtime's voice by ones of one thread."""
  voice.sessions = {end: open_session(f"{stem}{end}.onnx") for end in voice.sessions}


def in_torch(function: Callable[[], torch.Tensor]) -> np.ndarray:
  """Returns what torch makes, without gradients."""
  with torch.inference_mode():
    return function().numpy()


def normal(*shape: int) -> np.ndarray:
  """Returns standard normal float32."""
  return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


if __name__ == "__main__":
  main()
