"""A corpus of a million examples, from nothing: written, counted, planned, read once whole, trained on in 200 places.

The examples are short conversations of drawn words. Prints CPU and wall seconds for each example at every stage, for
corpora of a thousand examples up to `--examples`, with the memory used so far, and how soon the first batch comes from
the beginning and from a million examples further on.

    python tools/million_examples.py --workdir /tmp/million [--examples 1000000]
"""

import argparse
import contextlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import optax

from omni_jax.batches.planned import Host, PlannedBatches, PlannedRows
from omni_jax.batches.sources import ImageSize, Source
from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.language import LanguageConfig
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.writer import read_splits, write_split
from omni_jax.tokens.answers import NativeLayout
from omni_jax.tokens.dialogue import TOKENIZER_FILE, VOCABULARY_FILE
from omni_jax.tokens.templates import TINY
from omni_jax.tokens.text import train_text_tokenizer
from omni_jax.tokens.vocabulary import Vocabulary, make_vocabulary
from omni_jax.train.losses import next_token

WORDS = 2000  # different ones
ROWS, LENGTH = 16, 512
STEPS = 200
FAR = 1_000_000  # examples


def main() -> None:
  """Makes, plans, reads and trains."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--workdir", type=Path, required=True)
  parser.add_argument("--examples", type=int, default=1_000_000)
  arguments = parser.parse_args()
  make_vocabulary_of(arguments.workdir / "text")
  sizes = [10**power for power in range(3, 8) if 10**power < arguments.examples]
  for size in [*sizes, arguments.examples]:
    print(f"{size} examples", flush=True)
    data = prepare(arguments.workdir, size)
    read_whole(data, size)
  first_batches(data)
  train(data, size)
  print(f"peak memory {peak():.2f} GiB")


@contextlib.contextmanager
def stage(name: str, count: int) -> Iterator[None]:
  """Prints what a stage took for each of so many examples."""
  wall, spent = time.perf_counter(), time.process_time()
  yield
  wall, spent = time.perf_counter() - wall, time.process_time() - spent
  told = f"{spent:8.2f} CPU s, {wall:8.2f} s, {spent / count * 1e6:8.1f} CPU us each"
  print(f"  {name:<28} {told}, peak {peak():.2f} GiB", flush=True)


def peak() -> float:
  """Returns the largest memory of this process so far, in GiB."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def words() -> list[str]:
  """Returns made-up words of one to four syllables."""
  generator = np.random.default_rng(0)
  syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
  return sorted({"".join(generator.choice(syllables, generator.integers(1, 5))) for _ in range(WORDS)})


def examples(count: int) -> Iterator[Example]:
  """Yields conversations of two turns, 3 to 12 words asked and 4 to 40 answered."""
  known, generator = np.array(words()), np.random.default_rng(1)
  for start in range(0, count, 1000):
    sizes = generator.integers((3, 4), (13, 41), (1000, 2))
    drawn = known[generator.integers(0, len(known), sizes.sum())]
    for number, parts in enumerate(np.split(drawn, np.cumsum(sizes)[:-1])[: 2 * (count - start)]):
      if number % 2 == 0:
        asked = Turn("user", " ".join(parts))
      else:
        yield Example(f"made/{start + number // 2:08d}", "text", (asked, Turn("assistant", " ".join(parts))))


def make_vocabulary_of(folder: Path) -> None:
  """Writes a tokenizer of the words and its vocabulary."""
  if not (folder / VOCABULARY_FILE).exists():
    texts = [turn.text for example in examples(4000) for turn in example.turns]
    tokenizer = train_text_tokenizer(texts, path=folder / TOKENIZER_FILE, num_pieces=1000)
    make_vocabulary(tokenizer, text_size=1024).save(folder / VOCABULARY_FILE)


def prepare(workdir: Path, size: int) -> PlannedBatches:
  """Returns the batches of a corpus of `size` examples: written, counted and planned as far as its first pass."""
  folder = workdir / f"examples_{size}"
  if not read_splits(folder):
    with stage("records written", size):
      write_split(folder, "train", examples(size), shards=max(size // 100_000, 1))
  data = PlannedBatches(
    text=workdir / "text",
    template=TINY,
    layout=NativeLayout(text_chunk=8, unit_chunk=12),
    sources=(Source(folder=folder, split="train", view="text", weight=1.0),),
    rows=ROWS,
    length=LENGTH,
    patches=0,
    images=ImageSize(patch=14, merge=2, min_pixels=3136, max_pixels=3136),
    quarantine=workdir / "quarantine.jsonl",
    seed=0,
    plans=workdir / "plans",
  )
  with stage("written as tokens", size):
    prepared = data.prepared()
  stock = prepared.parts[0].stock
  held = stock.tokens.nbytes + stock.pieces.nbytes + stock.records.nbytes  # counts and tokens are mapped from files
  with stage("planned", size):
    prepared.plan.extend(int(stock.tokens[:, 0, 1].sum() / LENGTH) + 1)
  print(f"  lengths in memory: {held / 2**20:.1f} MiB, {held / size:.0f} bytes each", flush=True)
  return data


def read_whole(data: PlannedBatches, size: int) -> None:
  """Reads rows until every example was read, and checks that each was read once."""
  rows = PlannedRows(data, Host(0, 1))
  seen, left, number, tokens = np.zeros(size, np.int32), size, 0, 0
  with stage("read once", size):
    while left > 0:
      entries = rows.plan.row(number)
      left -= int((entries["epoch"] == 0).sum())
      np.add.at(seen, entries["record"][entries["epoch"] == 0], 1)
      tokens += int((rows.row(number)["segment_ids"] > 0).sum())
      number += 1
  assert (seen == 1).all(), "every example is read once in an epoch"
  print(f"  {number} rows, {tokens} tokens, {1 - tokens / number / LENGTH:.2%} padding", flush=True)


def first_batches(data: PlannedBatches) -> None:
  """Prints how soon the first batch comes from the beginning, and from far on."""
  prepared = data.prepared()
  far = int(FAR * prepared.parts[0].stock.tokens[:, 0, 1].mean() / LENGTH) // ROWS * ROWS
  prepared.plan.extend(far + ROWS)
  for row in (0, far, 0, far):
    start = time.perf_counter()
    iterator = iter(data.open())
    iterator.set_state(iterator.get_state() | {"row": row})
    next(iterator)
    print(f"first batch from row {row}: {time.perf_counter() - start:.2f} s after opening", flush=True)


def train(data: PlannedBatches, size: int) -> None:
  """Trains a small decoder for 200 steps, on batches spread evenly over the corpus."""
  ids = Vocabulary.load(data.text / VOCABULARY_FILE)
  decoder = DecoderConfig(
    vocab_size=ids.text_size, extra_vocab_size=ids.extra_size, width=64, depth=2, num_heads=2, num_kv_heads=1,
    head_dim=32, mlp_dim=128, rope_theta=1e4, norm_eps=1e-6, qkv_bias=True, tied=True,
  )  # fmt: skip
  model = LanguageConfig(decoder=decoder, image_token=ids.control("image")).make(key=jax.random.key(0))
  optimizer = optax.adam(3e-3)
  moments = optimizer.init(model)

  @jax.jit
  def step(model, moments, batch):
    (loss, _), grads = jax.value_and_grad(next_token, has_aux=True)(model, batch, jax.random.key(0))
    updates, moments = optimizer.update(grads, moments)
    return optax.apply_updates(model, updates), moments, loss

  rows = PlannedRows(data, Host(0, 1))
  stock = data.prepared().parts[0].stock
  batches, losses = int(stock.tokens[:, 0, 1].sum() / LENGTH / ROWS), []
  with stage(f"{STEPS} steps", STEPS):
    for number in range(STEPS):
      first = batches * number // STEPS * ROWS
      parts = [rows.row(first + row) for row in range(ROWS)]
      batch = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
      model, moments, loss = step(model, moments, batch)
      losses.append(float(loss))
  print(f"  loss {np.mean(losses[:10]):.3f} -> {np.mean(losses[-10:]):.3f}")
  assert np.isfinite(losses).all() and np.mean(losses[-10:]) < np.mean(losses[:10])


if __name__ == "__main__":
  main()
