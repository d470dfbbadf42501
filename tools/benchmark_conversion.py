"""A checkpoint of EMOVA-3B's shape, in and out: time, memory, and whether every tensor comes back byte for byte.

The released files cannot be had everywhere, so a folder of their names and shapes with random bfloat16 values is
written first (829 tensors, 7.6 GB). Then, each in a process of its own:

    ours    import into JAX arrays, shard by shard; export to a new folder; compare all tensors
    peer    transformers: load and save of the language part alone, as a stock Qwen2ForCausalLM

Memory is what a process holds beside the page cache (RssAnon), sampled every 20 ms. "beyond" is its peak less the model
itself; the goal is 1.3 x the largest shard + 2 GiB.

    python tools/benchmark_conversion.py --folder /tmp/emova3b [--layers 36]     (needs 30 GB there)
"""

import argparse
import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np

from omni_jax.convert.emova import emova_rules, emova_shapes, find_layout
from omni_jax.convert.folders import write_json
from omni_jax.convert.language import language_rules
from omni_jax.convert.language_card import language_card
from omni_jax.convert.shards import Folder, write_folder
from omni_jax.convert.table import export_stream, import_leaves, tensor_shapes
from omni_jax.models.emova import EMOVA_3B, EmovaConfig

GIB = 2**30


def main() -> None:
  """Writes the folder, runs both sides and prints their figures and ratios."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--folder", type=Path, required=True, help="where some 30 GB are free; emptied at the end")
  parser.add_argument("--layers", type=int, default=36, help="fewer for a quick look")
  parser.add_argument("--side", choices=("ours", "peer"), help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  config = sized(arguments.layers)
  if arguments.side:
    run_side(arguments.side, config, arguments.folder)
    return
  write_random(config, arguments.folder)
  found = {}
  for side in ("ours", "peer"):
    command = [
      sys.executable,
      __file__,
      "--folder",
      arguments.folder,
      "--layers",
      str(arguments.layers),
      "--side",
      side,
    ]
    found[side] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    print(f"{side}: {json.dumps(found[side])}", flush=True)
  for what in ("load_seconds", "save_seconds"):
    ours, peer = (found[side][what] / found[side]["gib"] for side in ("ours", "peer"))
    print(
      f"{what.split('_')[0]}: ours {ours:.2f}, peer {peer:.2f} seconds per GiB; ratio peer / ours {peer / ours:.2f}"
    )
  shutil.rmtree(arguments.folder)


def sized(layers: int) -> EmovaConfig:
  """Returns EMOVA-3B with so many layers in its decoder."""
  import dataclasses

  return dataclasses.replace(EMOVA_3B, decoder=dataclasses.replace(EMOVA_3B.decoder, depth=layers))


def write_random(config: EmovaConfig, folder: Path) -> None:
  """Writes the origin format of the whole model and the stock format of its decoder, random finite values."""
  draw = np.random.default_rng(0)

  def values(shapes):
    for name, shape in shapes.items():
      bits = draw.integers(0x3000, 0x3F00, int(np.prod(shape)), np.uint16) | (draw.integers(0, 2) << 15).astype(
        np.uint16
      )
      yield name, bits.view(jax.numpy.bfloat16.dtype).reshape(shape)

  origin = tensor_shapes(emova_rules(config), shapes=emova_shapes(config))
  write_folder(folder / "emova", values(origin))
  shapes = {path.removeprefix("decoder."): shape for path, shape in emova_shapes(config).items() if "decoder." in path}
  stock = tensor_shapes(language_rules(config.decoder), shapes=shapes)
  write_folder(folder / "stock", values(stock))
  write_json(folder / "stock" / "config.json", language_card(config.decoder, dtype="bfloat16"))


def run_side(side: str, config: EmovaConfig, folder: Path) -> None:
  """Runs one side and prints its figures as JSON."""
  memory = Memory()
  figures = (ours if side == "ours" else peer)(config, folder)
  beyond = memory.peak - figures["gib"]
  print(json.dumps({**figures, "peak_gib": round(memory.peak, 2), "beyond_gib": round(beyond, 2)}))


def ours(config: EmovaConfig, folder: Path) -> dict[str, float]:
  """Imports, exports, compares."""
  shapes = emova_shapes(config)
  start = time.perf_counter()
  source = Folder(folder / "emova")
  rules = emova_rules(config, find_layout(config, source))
  leaves = import_leaves(rules, source, shapes=shapes)
  loaded = time.perf_counter()
  write_folder(folder / "again", export_stream(rules, leaves))
  saved = time.perf_counter()
  again = Folder(folder / "again")
  same = sum(source[name].tobytes() == again[name].tobytes() for name in source)
  assert same == len(source) == len(again), f"{same} of {len(source)} tensors are equal"
  largest = max(source.shard_bytes().values()) / GIB
  size = sum(leaf.nbytes for leaf in leaves.values()) / GIB
  return {
    "tensors_equal": same, "load_seconds": round(loaded - start, 1), "save_seconds": round(saved - loaded, 1),
    "gib": round(size, 2), "largest_shard_gib": round(largest, 2), "goal_beyond_gib": round(1.3 * largest + 2, 2),
  }  # fmt: skip


def peer(config: EmovaConfig, folder: Path) -> dict[str, float]:
  """Loads and saves the language part with transformers."""
  import torch
  import transformers

  del config
  start = time.perf_counter()
  model = transformers.AutoModelForCausalLM.from_pretrained(folder / "stock", dtype=torch.bfloat16)
  for parameter in model.parameters():
    parameter.data = parameter.data.clone()  # read from disk now, as ours is: a mapped file is not loaded yet
  loaded = time.perf_counter()
  model.save_pretrained(folder / "stock_again")
  saved = time.perf_counter()
  size = sum(p.numel() * p.element_size() for p in model.parameters()) / GIB
  return {"load_seconds": round(loaded - start, 1), "save_seconds": round(saved - loaded, 1), "gib": round(size, 2)}


class Memory:
  """The peak of this process's own memory in GiB, sampled by a thread."""

  def __init__(self):
    self.peak = 0.0
    threading.Thread(target=self._watch, daemon=True).start()

  def _watch(self) -> None:
    while True:
      lines = Path("/proc/self/status").read_text().splitlines()
      kib = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
      self.peak = max(self.peak, kib / 2**20)
      time.sleep(0.02)


if __name__ == "__main__":
  main()
