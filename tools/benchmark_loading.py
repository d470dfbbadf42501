"""Rates of reading beside the peers': torch's `DataLoader` with transformers' processors, and `datasets` streaming.

All make the same batches of packed rows from the same records, which is asserted: tokens, targets, what is learned,
positions, segments, and the same grey levels of images (theirs are floats, normalised and twice in time; ours bytes,
which the tower normalises). Three tasks: conversations in text, images with captions, and recordings as waveforms.
One process, one thread, CPU seconds; every way reads the rows in the order of our plan, which is in their favour: the
peers get ready-made lists of what stands in a row, and `datasets` its records already in that order.

    python tools/benchmark_loading.py --workdir /tmp/loading [--records 4000] [--rounds 3]
"""

import argparse
import functools
import io
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from omni_jax.batches.planned import Host, PlannedBatches, PlannedRows
from omni_jax.batches.sounds import sounding_turns
from omni_jax.batches.sources import ImageSize, Source
from omni_jax.batches.timing import stages
from omni_jax.batches.utterances import Bucket, Buckets, UtteranceBatches
from omni_jax.convert.chat_template import chat_template
from omni_jax.prepare.audio import encode_flac
from omni_jax.prepare.reader import ExampleSource
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.writer import read_splits, write_split
from omni_jax.tokens.answers import NativeLayout
from omni_jax.tokens.extension import added_names, extend_vocabulary, load_tokenizer
from omni_jax.tokens.hugging_face import HuggingFaceTokenizer
from omni_jax.tokens.templates import QWEN2

ROWS, LENGTH, CELLS = 8, 2048, 1536
PATCH, MERGE = 14, 2
BOUNDS = {"min_pixels": 4 * 28 * 28, "max_pixels": 256 * 28 * 28}
SECONDS = 16
PASSES = 3  # over recordings
AHEAD = 6  # batches that `deal` may have ready
LEAST_RECORDINGS = ROWS * 10 * AHEAD  # so that what may be ready ahead is a tenth of a pass
CUT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

Batch = dict[str, Any]


def main() -> None:
  """Makes the records, checks that all ways agree, and prints their rates."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--workdir", type=Path, required=True)
  parser.add_argument("--records", type=int, default=4000)
  parser.add_argument("--rounds", type=int, default=3)
  arguments = parser.parse_args()
  torch.set_num_threads(1)
  workdir, rounds = arguments.workdir, arguments.rounds
  make_vocabulary(workdir / "text")
  compare(packed(workdir, "conversations", conversations(arguments.records)), rounds=rounds)
  compare(packed(workdir, "captions", captions(arguments.records // 8)), rounds=rounds)
  compare_sound(workdir, max(arguments.records // 8, LEAST_RECORDINGS), rounds=rounds)


def compare(data: PlannedBatches, *, rounds: int) -> None:
  """Prints the rates of the three ways to read packed rows."""
  (source,) = data.sources
  count = len(ExampleSource(source.folder, source.split)) // 12 // ROWS * ROWS or ROWS
  plan = PlannedRows(data, Host(0, 1)).plan
  samples = sum(len(row) for row in plan.rows(0, count))
  peer = Peer(data)
  ways: dict[str, Callable[[], Iterable[Batch]]] = {
    "ours": lambda: itertools.islice(data.open(), count // ROWS),
    "torch DataLoader": lambda: torch_batches(peer, plan.rows(0, count)),
  }
  streamed = peer.written_in_order(plan.rows(0, count))
  if streamed is not None:
    ways["datasets streaming"] = lambda: streamed_batches(peer, streamed, plan.rows(0, count))
  for name, way in ways.items():
    for ours, theirs in zip(ways["ours"](), way(), strict=True):
      check(ours, theirs, name)
  print(f"{source.folder.name}: {count} rows of {LENGTH} tokens, {samples} samples", flush=True)
  report(ways, samples, rounds=rounds)
  spent = stages(data, rows=min(count, 32))
  print("  ours, CPU of each stage:", ", ".join(f"{name} {s / sum(spent.values()):.0%}" for name, s in spent.items()))


def report(ways: dict[str, Callable[[], Iterable[Batch]]], samples: int, *, rounds: int, skip: int = 0) -> None:
  """Prints samples for each CPU second, the median of rounds in turn, and our rate over each peer's.

  Args:
    ways: name -> what makes all batches anew.
    samples: in the batches that are timed.
    rounds: that are timed.
    skip: batches before those, as many as a thread has ready ahead of its reader.
  """
  seconds: dict[str, list[float]] = {name: [] for name in ways}
  for _, (name, way) in itertools.product(range(rounds), ways.items()):
    batches = iter(way())
    for _ in itertools.islice(batches, skip):
      time.sleep(0.05 if name == "ours" else 0.0)  # its thread runs ahead now, and is as far ahead at the end
    start = time.process_time()
    for _ in batches:
      pass
    seconds[name].append(time.process_time() - start)
  ours = statistics.median(seconds["ours"])
  for name, spent in seconds.items():
    middle = statistics.median(spent)
    print(f"  {name:<20} {samples / middle:8.0f} samples/CPU s   ours is {middle / ours:.2f} times as fast", flush=True)


class Peer:
  """The usual way: a chat template, a tokenizer, an image processor, and answers found by encoding their prompts."""

  def __init__(self, data: PlannedBatches):
    vocabulary = data.dialogue().vocabulary
    text = HuggingFaceTokenizer.load(data.text / "tokenizer.json").extended(added_names(vocabulary))
    (data.text / "extended.json").write_text(text)
    self.tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(data.text / "extended.json"))
    self.tokenizer.chat_template = chat_template(QWEN2)
    self.images = Qwen2VLImageProcessorPil(**BOUNDS)
    self.folder = data.sources[0].folder
    records = ExampleSource(self.folder, "train")
    self.lines = [self._line(records[index]) for index in range(len(records))]

  def _line(self, example: Example) -> dict[str, Any]:
    """Returns a record as LLaVA's JSON has it, its image in a file."""
    path = self.folder / "files" / f"{example.id.replace('/', '_')}.png"
    if example.image:
      path.parent.mkdir(exist_ok=True)
      path.write_bytes(example.image)
    messages = [{"role": turn.role, "content": turn.text} for turn in example.turns]
    return {"messages": messages, "image": str(path) if example.image else ""}

  def sample(self, messages: list[dict[str, str]], image: Image.Image | None) -> Batch:
    """Returns one conversation of two turns as arrays."""
    arrays = {}
    if image is not None:
      seen = self.images(images=[image], return_tensors="np")
      arrays = {"patches": seen["pixel_values"]}
      places = len(arrays["patches"]) // MERGE**2
      messages = [{**messages[0], "content": "<image>" * places + "\n" + messages[0]["content"]}, *messages[1:]]
    whole = self.tokenizer.apply_chat_template(messages, tokenize=False)
    prompt = self.tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    tokens = np.array(self.tokenizer(whole)["input_ids"], np.int32)
    first = len(self.tokenizer(prompt)["input_ids"])
    mask = (np.arange(1, len(tokens)) >= first).astype(np.float32)
    return {"tokens": tokens[:-1], "targets": tokens[1:], "loss_mask": mask, **arrays}

  def row(self, samples: list[Batch]) -> dict[str, torch.Tensor]:
    """Returns samples side by side."""
    row = {name: np.zeros(LENGTH, np.int32) for name in ("tokens", "targets", "positions", "segment_ids")}
    row["loss_mask"] = np.zeros(LENGTH, np.float32)
    start = 0
    for number, sample in enumerate(samples, 1):
      end = start + len(sample["tokens"])
      for name in ("tokens", "targets", "loss_mask"):
        row[name][start:end] = sample[name]
      row["positions"][start:end], row["segment_ids"][start:end] = np.arange(end - start), number
      start = end
    if "patches" in samples[0]:
      row["patches"] = np.zeros((CELLS * MERGE**2, PATCH * PATCH * 6), np.float32)
      seen = np.concatenate([sample["patches"] for sample in samples])
      row["patches"][: len(seen)] = seen
    return {name: torch.from_numpy(array) for name, array in row.items()}

  def written_in_order(self, rows: list[np.ndarray]) -> Path | None:
    """Returns a Parquet file of the records in the order of the rows, or None where `datasets` is not installed."""
    try:
      import datasets
    except ImportError:
      print("`datasets` is not installed: its rate is left out")
      return None
    path = self.folder / "ordered.parquet"
    lines = [self.lines[record] for row in rows for record in row["record"].tolist()]
    columns = {"messages": [line["messages"] for line in lines]}
    if lines[0]["image"]:
      columns["image"] = [{"bytes": Path(line["image"]).read_bytes(), "path": None} for line in lines]
    table = datasets.Dataset.from_dict(columns)
    if "image" in columns:
      table = table.cast_column("image", datasets.Image())
    table.to_parquet(str(path))
    return path


class TorchRows(torch.utils.data.Dataset):
  """Rows for a `DataLoader`."""

  def __init__(self, peer: Peer, rows: list[np.ndarray]):
    self.peer, self.rows = peer, [row["record"].tolist() for row in rows]

  def __len__(self) -> int:
    return len(self.rows)

  def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
    samples = []
    for record in self.rows[index]:
      line = self.peer.lines[record]
      samples.append(self.peer.sample(line["messages"], Image.open(line["image"]) if line["image"] else None))
    return self.peer.row(samples)


def torch_batches(peer: Peer, rows: list[np.ndarray]) -> Iterable[Batch]:
  """Returns the batches of a `DataLoader` in this process."""
  return torch.utils.data.DataLoader(TorchRows(peer, rows), batch_size=ROWS, num_workers=0)


def streamed_batches(peer: Peer, path: Path, rows: list[np.ndarray]) -> Iterator[Batch]:
  """Yields the batches of a streamed Parquet file, mapped record by record."""
  import datasets

  stream = datasets.load_dataset("parquet", data_files=str(path), split="train", streaming=True)
  samples = iter(stream.map(lambda line: {"sample": peer.sample(line["messages"], line.get("image"))}))
  made = (peer.row([_arrays(next(samples)["sample"]) for _ in row]) for row in rows)
  while batch := list(itertools.islice(made, ROWS)):
    yield torch.utils.data.default_collate(batch)


def _arrays(sample: dict[str, Any]) -> Batch:
  return {name: np.asarray(value) for name, value in sample.items()}


def check(ours: Batch, theirs: Batch, name: str) -> None:
  """Stops unless two batches are the same, images to one grey level."""
  for field in ("tokens", "targets", "loss_mask", "positions", "segment_ids"):
    np.testing.assert_array_equal(ours[field], np.asarray(theirs[field]), err_msg=f"{name}: {field}")
  if "patches" in theirs and np.asarray(theirs["patches"]).dtype != np.uint8:
    processor = Qwen2VLImageProcessorPil(**BOUNDS)
    mean, deviation = (np.array(c)[:, None] for c in (processor.image_mean, processor.image_std))
    own = ours["patches"].reshape(ROWS, -1, PATCH * PATCH * 3)
    seen = ours["patch_segment_ids"].reshape(ROWS, -1) > 0
    frames = np.asarray(theirs["patches"]).reshape(ROWS, -1, 3, 2, PATCH * PATCH)[:, :, :, 0]
    greys = ((frames * deviation + mean) * 255).swapaxes(2, 3).reshape(own.shape)
    assert np.abs(greys - own)[seen].max() < 1, f"{name}: images differ"


def compare_sound(workdir: Path, count: int, *, rounds: int) -> None:
  """Prints the rates of recordings as padded waveforms, passed over once and `PASSES` times.

  The peer decodes a file each time it is asked for; we keep what we decoded as 16-bit samples, as far as there is room.
  """
  folder = workdir / "recordings"
  if not read_splits(folder):
    write_split(folder, "train", recordings(count // ROWS * ROWS))
  (workdir / "phones.json").write_text(json.dumps(["a"]))
  data = UtteranceBatches(
    sets=(folder,), split="train", phones=workdir / "phones.json", num_phones=1, max_phones=1,
    buckets=(Bucket(seconds=SECONDS, rows=ROWS),), seed=0,
  )  # fmt: skip
  sounds = sounding_turns((folder,), "train")
  dealt = Buckets(np.array([one.length.samples for one in sounds]), data.buckets, seed=data.seed, where=str(folder))
  files = [folder / f"{index}.flac" for index in range(len(sounds))]
  for path, one in zip(files, sounds, strict=True):
    path.write_bytes(one.audio())
  for passes in (1, PASSES):
    count = passes * (len(files) // ROWS) - AHEAD  # so that no batch that is made ahead is of another pass
    order = [member for index in range(count) for member in dealt[index][1].tolist()]
    ways: dict[str, Callable[[], Iterable[Batch]]] = {
      "ours": functools.partial(lambda count: itertools.islice(data.open(), count), count),
      "torch DataLoader": functools.partial(torch_sounds, [files[member] for member in order]),
    }
    for ours, theirs in zip(*(way() for way in ways.values()), strict=True):
      difference = np.abs(ours["waveform"] - np.asarray(theirs["waveform"])).max()
      assert difference < 1 / 32768, "the same samples in the same order"  # ours are rounded to multiples of 1 / 32767
    print(f"recordings: {len(files)} of 2 to {SECONDS} s, {passes} times", flush=True)
    report(ways, (count - AHEAD) * ROWS, rounds=rounds, skip=AHEAD)


def torch_sounds(files: list[Path]) -> Iterable[Batch]:
  """Returns the batches of a `DataLoader` in this process: files decoded, and padded by a feature extractor."""
  extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=False)

  def collate(waveforms: list[np.ndarray]) -> Batch:
    made = extractor(
      waveforms, sampling_rate=16_000, padding="max_length", max_length=SECONDS * 16_000, return_tensors="pt"
    )
    return {"waveform": made["input_values"]}

  class Files(torch.utils.data.Dataset):
    def __len__(self) -> int:
      return len(files)

    def __getitem__(self, index: int) -> np.ndarray:
      import soundfile

      return soundfile.read(files[index], dtype="float32")[0]

  return torch.utils.data.DataLoader(Files(), batch_size=ROWS, collate_fn=collate)


def packed(workdir: Path, name: str, examples: Iterable[Example]) -> PlannedBatches:
  """Returns the planned batches of a set, written first."""
  if not read_splits(workdir / name):
    write_split(workdir / name, "train", examples)
  view = "text" if name == "conversations" else "image_text"
  return PlannedBatches(
    text=workdir / "text",
    template=QWEN2,
    layout=NativeLayout(text_chunk=8, unit_chunk=12),
    sources=(Source(folder=workdir / name, split="train", view=view, weight=1.0),),
    rows=ROWS,
    length=LENGTH,
    patches=0 if view == "text" else CELLS * MERGE**2,
    images=ImageSize(patch=PATCH, merge=MERGE, **BOUNDS),
    quarantine=workdir / "quarantine.jsonl",
    seed=0,
    plans=workdir / "plans",
  )


def words(count: int, *, seed: int) -> Iterator[list[str]]:
  """Yields endless lists of made-up words, 5 to `count` of them."""
  generator = np.random.default_rng(seed)
  syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
  known = ["".join(generator.choice(syllables, generator.integers(1, 5))) for _ in range(5000)]
  while True:
    yield [known[place] for place in generator.integers(0, len(known), generator.integers(5, count))]


def conversations(count: int) -> Iterator[Example]:
  """Yields questions of up to 30 words with answers of up to 120."""
  for index, asked, said in zip(range(count), words(30, seed=0), words(120, seed=1)):  # noqa: B905, two are endless
    turns = (Turn("user", " ".join(asked)), Turn("assistant", " ".join(said)))
    yield Example(f"c/{index}", "text", turns)


def captions(count: int) -> Iterator[Example]:
  """Yields smooth drawn images of 200 to 500 pixels a side as PNG, with captions."""
  generator = np.random.default_rng(2)
  for index, said in zip(range(count), words(60, seed=3)):  # noqa: B905
    height, width = generator.integers(200, 500, 2).tolist()
    rough = Image.fromarray(generator.integers(0, 256, (8, 8, 3), np.uint8))
    data = io.BytesIO()
    rough.resize((width, height), Image.Resampling.BICUBIC).save(data, "PNG")
    turns = (Turn("user", "describe it"), Turn("assistant", " ".join(said)))
    yield Example(f"i/{index}", "caption", turns, data.getvalue())


def recordings(count: int) -> Iterator[Example]:
  """Yields noisy tones of 2 to 15 seconds."""
  generator = np.random.default_rng(4)
  for index in range(count):
    times = np.arange(int(generator.uniform(2, 15) * 16_000)) / 16_000
    sound = 0.3 * np.sin(2 * np.pi * generator.uniform(80, 400) * times) + 0.02 * generator.normal(size=len(times))
    yield Example(f"r/{index}", "speech", (Turn("user", "tone", audio=encode_flac(sound.astype(np.float32))),))


def make_vocabulary(folder: Path) -> None:
  """Writes a byte-level tokenizer in Qwen2's manner, and its vocabulary."""
  if (folder / "vocabulary.json").exists():
    return
  tokenizer = Tokenizer(models.BPE())
  level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(CUT), "isolated"), level])
  tokenizer.decoder = decoders.ByteLevel()
  alphabet = pre_tokenizers.ByteLevel.alphabet()
  trainer = trainers.BpeTrainer(vocab_size=4000, initial_alphabet=alphabet, show_progress=False)
  texts = (" ".join(some) for some in itertools.islice(words(120, seed=1), 3000))
  tokenizer.train_from_iterator(texts, trainer)
  tokenizer.add_special_tokens(list(SPECIALS))
  folder.mkdir(parents=True, exist_ok=True)
  tokenizer.save(str(folder / "tokenizer.json"))
  extend_vocabulary(load_tokenizer(folder), end="<|im_end|>", codebook_size=64).save(folder / "vocabulary.json")


if __name__ == "__main__":
  main()
