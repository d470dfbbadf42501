"""Speed of Mini-Omni beside its original code: latency of a step, the cache in bytes, passes before the first sound.

`--reference` is a folder with the original's `litgpt` and `utils` (github.com/gpt-omni/mini-omni); its model and its
generation loops run unchanged. Of its `litgpt/utils.py`, which asks for lightning, nothing is used but one rounding
of numbers, which is put in its place. Both have the same random weights, the same prompts and caches of 2048
positions, and decode greedily in turn in one process in float32; the entries behind the prompt must be the same. A
step is what lies between two columns that the caller sees: the model, the choice of eight entries, and the hand-over.
Prints medians, CPU seconds (all threads) beside wall seconds, since the machine may be shared; real time needs 11.72
steps a second.

    mkdir original && git -C mini-omni archive HEAD litgpt utils | tar -x -C original
    python tools/benchmark_mini_omni.py --reference original [--steps 12] [--rounds 3] [--tiny]

Without `--reference` ours is measured alone. 5 GiB of memory; `--tiny` is the same on a few thousand parameters.
"""

import argparse
import dataclasses
import itertools
import os
import statistics
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TQDM_DISABLE", "1")  # of the original's loops

import jax
import numpy as np

from omni_jax.convert.mini_omni import export_mini_omni, write_config
from omni_jax.convert.torch_files import in_torch
from omni_jax.generate.engine import Prompt
from omni_jax.generate.row_engine import SPEAK, WRITE, RowEngine
from omni_jax.models.mini_omni import MINI_OMNI_0_5B, MiniOmni, MiniOmniConfig, mini_omni
from omni_jax.models.sizes import QWEN2_0_5B
from omni_jax.speech.snac import SNAC_24KHZ
from omni_jax.tokens.delays import FrameStream, entries
from omni_jax.tokens.mini_omni import MINI_OMNI, Task

REAL_TIME = 24_000 / 2048  # steps a second: a frame of SNAC is 2048 samples
POSITIONS = 2048
QUESTION = tuple(range(1000, 1016))


class Spent(NamedTuple):
  """Seconds of a step."""

  wall: float
  cpu: float


def main() -> None:
  """Measures and prints."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--reference", type=Path, metavar="FOLDER", help="with the original's litgpt and utils")
  parser.add_argument("--steps", type=int, default=12, help="of each decoding")
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--tiny", action="store_true", help="a model of two narrow layers")
  arguments = parser.parse_args()
  config = mini_omni(_narrow()) if arguments.tiny else MINI_OMNI_0_5B
  model = random_model(config)
  count = sum(leaf.size for leaf in jax.tree.leaves(model))
  print(
    f"{count:,} parameters, float32, random; {jax.local_device_count()} device, {len(os.sched_getaffinity(0))} cores",
    flush=True,
  )
  original = None if arguments.reference is None else load_original(arguments.reference, model)
  report_cache(model, original)
  report_first_sound()
  engine = RowEngine(model, layout=MINI_OMNI, max_columns=POSITIONS, constrained=False)
  del model
  for name, tasks in (("batch 1", (Task.T1A2,)), ("pair", (Task.T1A2, Task.T1T2))):
    theirs = None if original is None else lambda tasks=tasks: original_steps(original, tasks, arguments.steps)
    report_steps(name, lambda tasks=tasks: our_steps(engine, tasks, arguments.steps), theirs, rounds=arguments.rounds)


def random_model(config: MiniOmniConfig) -> MiniOmni:
  """Returns a model with random weights."""
  return jax.block_until_ready(jax.jit(lambda key: config.make(key=key))(jax.random.key(0)))


def load_original(folder: Path, model: MiniOmni) -> Any:
  """Returns the original's model with the weights of ours, on the original's own code."""
  import torch

  if not (folder / "litgpt" / "generate" / "base.py").is_file():
    raise SystemExit(f"{folder}: no litgpt/generate/base.py; give a checkout of github.com/gpt-omni/mini-omni")
  sys.path.insert(0, str(folder.resolve()))
  package, rounding = types.ModuleType("litgpt"), types.ModuleType("litgpt.utils")
  package.__path__ = [str(folder.resolve() / "litgpt")]
  rounding.find_multiple = lambda number, of: -(-number // of) * of  # pyright: ignore[reportAttributeAccessIssue]
  sys.modules |= {"litgpt": package, "litgpt.utils": rounding}
  from litgpt.model import GPT, Config  # pyright: ignore[reportMissingImports]

  config = Config(**(write_config(model.config) | {"block_size": POSITIONS}))
  with torch.device("meta"):
    original = GPT(config)
  original.load_state_dict(in_torch(export_mini_omni(model)), assign=True)
  original.transformer.wte.weight = original.lm_head.weight
  original.cos, original.sin = original.rope_cache(device=torch.device("cpu"))
  GPT.device = torch.device("cpu")
  return original.eval()


def our_steps(engine: RowEngine, tasks: tuple[Task, ...], steps: int) -> tuple[list[Spent], np.ndarray]:
  """Returns the cost of every step behind the first, and the entries [R, steps] of the row that speaks."""
  prompts = [Prompt(tokens=MINI_OMNI.prompt(task, text=QUESTION).T, state=_state(task)) for task in tasks]
  room = POSITIONS // 2 - 1  # the cache is of twice as many slots, and the prompt's
  columns = engine.stream(prompts, max_new_columns=room, paired=len(tasks) == 2, block=1)
  spent, blocks = timed(columns, steps)
  return spent, np.concatenate(blocks, axis=2)[0]


def original_steps(original: Any, tasks: tuple[Task, ...], steps: int) -> tuple[list[Spent], np.ndarray]:
  """Returns the same of the original's own loops, whose steps are told by the calls of its model."""
  import torch
  from litgpt.generate import base  # pyright: ignore[reportMissingImports]

  original.set_kv_cache(batch_size=len(tasks), dtype=torch.float32)
  prompts = torch.from_numpy(np.stack([MINI_OMNI.prompt(task, text=QUESTION) for task in tasks], axis=1)).long()
  starts: list[Spent] = []
  hook = original.register_forward_pre_hook(lambda *_: starts.append(_now()))
  options = {"temperature": 0.9, "top_k": 1, "eos_id_a": 4096, "eos_id_t": 151936, "pad_id_t": 151937, "shift": 152000}
  most = prompts.shape[2] + steps + 1
  if len(tasks) == 2:
    # This loop takes every question for a spoken one. Ours is typed, so vectors of speech replace nothing.
    original.concat_whisper_feat = lambda _, rows, *__: rows
    features = torch.zeros(len(tasks), 0, original.config.whisper_adapter_dim)
    found = base.generate_TA_BATCH(original, features, list(prompts), None, ["T1A2", "T1T2"], most, **options)
  else:
    found = base.generate_TA(original, None, list(prompts), None, None, most, **options)
  hook.remove()
  return _between(starts), np.array(found)


def timed(columns: Iterator[np.ndarray], steps: int) -> tuple[list[Spent], list[np.ndarray]]:
  """Returns the cost of every step behind the first, and the blocks of one column."""
  stamps, blocks = [], []
  for _ in range(steps + 1):
    blocks.append(next(columns))
    stamps.append(_now())
  return _between(stamps), blocks


Steps = Callable[[], tuple[list[Spent], np.ndarray]]


def report_steps(name: str, ours: Steps, theirs: Steps | None, *, rounds: int) -> None:
  """Runs both in turn after a warm-up, checks that they write the same, and prints medians and ratios."""
  own, other = ours()[1], None if theirs is None else theirs()[1]
  equal = 0.0
  if other is not None:
    shared = min(own.shape[1], other.shape[1])
    assert (own[:, 0] == other[:, 0]).all(), "the two write different entries behind the same prompt"
    # Later columns read what was written; random weights have near ties, behind which the two part for good.
    equal = float((own[:, :shared] == other[:, :shared]).mean())
  pairs = []
  for _ in range(rounds):
    pairs.append((_median(ours()[0]), None if theirs is None else _median(theirs()[0])))
  medians = _median([mine for mine, _ in pairs])
  line = f"{name}: a step {medians.wall:.3f} s ({medians.cpu:.3f} CPU s), {1 / medians.wall:.2f} steps/s of"
  line += f" {REAL_TIME:.2f} for real time"
  if other is not None:
    peer = _median([theirs for _, theirs in pairs if theirs])
    ratio = Spent(*(statistics.median(b[i] / a[i] for a, b in pairs if b) for i in range(2)))
    line += f"; original {peer.wall:.3f} s ({peer.cpu:.3f} CPU s), {1 / peer.wall:.2f} steps/s; original / ours"
    line += f" {ratio.wall:.2f} (CPU {ratio.cpu:.2f}); {equal:.0%} of entries equal"
  print(line, flush=True)


def report_cache(model: MiniOmni, original: Any) -> None:
  """Prints the bytes of a row of the cache at 2048 positions, from the arrays themselves."""
  cache = model.empty_cache(1, POSITIONS)
  keys, values = cache.decoder.keys, cache.decoder.values
  line = f"cache of a row at {POSITIONS} positions: {(keys.nbytes + values.nbytes) / 1e6:.1f} MB,"
  line += f" keys {keys.shape} {keys.dtype}: {keys.shape[2]} groups"
  if original is not None:
    import torch

    original.set_kv_cache(batch_size=1, dtype=torch.float32)
    caches = [block.attn.kv_cache for block in original.transformer.h]
    total = sum(part.nbytes for cache in caches for part in (cache.k, cache.v))
    line += f"; original {total / 1e6:.1f} MB, {caches[0].k.shape[1]} heads"
  print(line, flush=True)


def report_first_sound() -> None:
  """Prints after how many passes sound comes, a pass for each column (`tests/generate/test_row_assistant.py`)."""
  codes = np.zeros((20, MINI_OMNI.num_layers), np.int32)
  columns = entries(MINI_OMNI.answer(Task.A1A2, text=[1], codes=codes).tokens, MINI_OMNI.rows)
  stream, known = FrameStream(MINI_OMNI.audio_rows), [0]
  for column in range(columns.shape[1]):
    known.append(known[-1] + len(stream.push(columns[:-1, column : column + 1])))
  final = np.maximum(np.array(known) * SNAC_24KHZ.hop - SNAC_24KHZ.decoder_ahead, 0)
  spoken = [f"{1000 * final[n] / SNAC_24KHZ.sample_rate:.0f} ms after {n}" for n in (int((final > 0).argmax()), 11)]
  four = int((final >= 4 * SNAC_24KHZ.hop).argmax())
  print(
    f"first sound, in passes: isolated chunks of 4 frames after {known.index(4)}; exact stream: {', '.join(spoken)},"
  )
  print(f"  four frames ({4000 * SNAC_24KHZ.hop / SNAC_24KHZ.sample_rate:.0f} ms) after {four}", flush=True)


def _narrow() -> Any:
  return dataclasses.replace(QWEN2_0_5B, width=32, depth=2, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=48)


def _state(task: Task) -> str:
  return SPEAK if task.speaks else WRITE


def _now() -> Spent:
  return Spent(time.perf_counter(), time.process_time())


def _between(stamps: list[Spent]) -> list[Spent]:
  """Returns the costs between stamps, without the first: a prompt is read before it."""
  return [Spent(b.wall - a.wall, b.cpu - a.cpu) for a, b in itertools.pairwise(stamps[1:])]


def _median(spent: list[Spent]) -> Spent:
  return Spent(*(statistics.median(values) for values in zip(*spent, strict=True)))


if __name__ == "__main__":
  main()
