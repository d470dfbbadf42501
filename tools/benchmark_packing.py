"""Padding on a mixture like EMOVA's: rows planned, rows by first fit, groups of like word count, and plain padding.

Lengths are drawn from the distributions printed first. Shares are those of EMOVA's second stage (arXiv 2409.18042 v4,
figure 9): 55 % image-text, 34 % speech, 11 % text, each divided by its own numbers of samples. What the paper says of
hours and utterances gives the lengths of speech; those of captions and answers are estimates, as none are published.

EMOVA sorts within megabatches by the number of words between spaces, with images and without images apart, and pads
each batch to its longest; a unit string is one word there and an image none.

    python tools/benchmark_packing.py [--samples 20000] [--most 1000000]
"""

import argparse
import dataclasses
import itertools
import resource
import time
from collections.abc import Callable

import grain
import numpy as np

from omni_jax.batches.planner import Planner, Stock
from omni_jax.batches.shares import phases

LENGTH, IMAGE_TOKENS, MERGED = 8192, 6144, 4  # tokens of a row, places of them for images, patches to a place
BATCH, MEGABATCH = 8, 256  # samples of a device and of a step, as in EMOVA's 7B
HEADER = 24  # tokens of system text, roles and ends
WORD = 0.75  # words to a token of written English


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
  """One data set: (median, sigma of the logarithm) of each of its lengths."""

  name: str
  thousands: float  # of samples
  text: tuple[float, float]
  image: tuple[float, float] = (0.0, 0.0)
  units: tuple[float, float] = (0.0, 0.0)
  request: int = 0  # tokens of a fixed request


# Images: 28 x 28 pixels to a token; 640 x 480 are 391, a page of 1000 x 1000 is 1296. Speech: AISHELL-2 has 1000 hours
# in 1,003,000 utterances (3.6 s), LibriSpeech 960 in 273,000 (12.6 s); 25 units a second, of which a fifth repeat.
GROUPS = {
  "image-text": (
    0.55,
    (
      Kind(name="captions, English", thousands=1988.2, text=(190, 0.4), image=(420, 0.5), request=12),
      Kind(name="captions, Mandarin", thousands=628.2, text=(230, 0.4), image=(420, 0.5), request=12),
      Kind(name="scenes, conversations", thousands=157.6, text=(350, 0.6), image=(420, 0.5), request=30),
      Kind(name="pages and receipts", thousands=845.4, text=(260, 0.8), image=(1100, 0.5), request=14),
      Kind(name="charts and tables", thousands=512.1, text=(120, 0.6), image=(700, 0.5), request=16),
    ),
  ),
  "speech": (
    0.34,
    (
      Kind(name="AISHELL-2", thousands=2006.0, text=(11, 0.35), units=(69, 0.4), request=14),
      Kind(name="LibriSpeech", thousands=546.5, text=(44, 0.45), units=(245, 0.35), request=14),
    ),
  ),
  "text": (
    0.11,
    (
      Kind(name="one question", thousands=600.0, text=(480, 0.6)),
      Kind(name="several questions", thousands=300.0, text=(1050, 0.5)),
    ),
  ),
}


@dataclasses.dataclass(frozen=True)
class Drawn:
  """Samples: their lengths in tokens, the places of their images, and the words EMOVA counts."""

  group: np.ndarray
  tokens: np.ndarray
  image: np.ndarray
  words: np.ndarray


def main() -> None:
  """Prints the distributions, the table, and what planning costs."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--samples", type=int, default=20_000)
  parser.add_argument("--most", type=int, default=1_000_000, help="samples of the largest plan")
  parser.add_argument("--seed", type=int, default=0)
  arguments = parser.parse_args()
  describe()
  drawn = draw(arguments.samples, seed=arguments.seed)
  print(f"\n{arguments.samples} samples, {drawn.tokens.mean():.0f} tokens on average; rows of {LENGTH}\n")
  print("| way | padding of the tokens | rows or batches | CPU seconds |\n|---|---|---|---|")
  ways: dict[str, Callable[[Drawn], tuple[float, int]]] = {
    "planned rows (ours)": planned,
    "first fit while reading (grain, 16 rows open)": lambda own: first_fit(own, bins=16),
    "first fit while reading (grain, 128 rows open)": lambda own: first_fit(own, bins=128),
    "batches of 8 of like word count, padded to the longest (EMOVA)": grouped,
    "batches of 8 at random, padded to the longest": lambda own: padded(own, np.arange(len(own.tokens))),
    f"one sample a row of {LENGTH}, as static shapes want it": lambda own: (
      1 - own.tokens.sum() / (len(own.tokens) * LENGTH), len(own.tokens)),
  }  # fmt: skip
  for name, way in ways.items():
    start = time.process_time()
    share, rows = way(drawn)
    print(f"| {name} | {share:.2%} | {rows} | {time.process_time() - start:.2f} |", flush=True)
  print("\nPlanning, cost by the number of samples (records in memory: 16 bytes each):")
  for count in [10**power for power in range(3, 8) if 10**power <= arguments.most]:
    own = draw(count, seed=arguments.seed)
    start = time.process_time()
    share, rows = planned(own)
    spent = (time.process_time() - start) / count
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  {count:>8} samples: {spent * 1e6:5.1f} us each, {rows} rows, padding {share:.2%}, peak {peak:.2f} GiB")


def describe() -> None:
  """Prints what lengths are drawn from."""
  print(f"every sample: {HEADER} tokens of template; lognormal, written median (sigma); images of 4 to 4096 places")
  for name, (share, kinds) in GROUPS.items():
    print(f"{name}: {share:.0%}")
    for kind in kinds:
      parts = {"text": kind.text, "image": kind.image, "units": kind.units}
      told = ", ".join(f"{part} {median:.0f} ({sigma})" for part, (median, sigma) in parts.items() if median)
      print(f"  {kind.name}: {kind.thousands}K samples, {told}, request {kind.request}")


def draw(count: int, *, seed: int) -> Drawn:
  """Returns samples in random order, in the exact shares of the groups."""
  generator = np.random.default_rng(seed)
  parts = []
  for group, (share, kinds) in enumerate(GROUPS.values()):
    weights = np.array([kind.thousands for kind in kinds])
    number = round(count * share)
    for place, kind in enumerate(kinds):
      own = int(number * weights[: place + 1].sum() / weights.sum()) - int(
        number * weights[:place].sum() / weights.sum()
      )
      lengths = {
        part: np.round(generator.lognormal(np.log(median), sigma, own)).astype(int) if median else np.zeros(own, int)
        for part, (median, sigma) in {"text": kind.text, "image": kind.image, "units": kind.units}.items()
      }
      image = np.clip(lengths["image"], 4, 4096) if kind.image[0] else lengths["image"]
      words = lengths["text"] * WORD + (kind.units[0] > 0) + kind.request * WORD
      tokens = np.minimum(HEADER + kind.request + lengths["text"] + image + lengths["units"], LENGTH)
      parts.append((np.full(own, group), tokens, image, words.astype(int)))
  order = generator.permutation(sum(len(part[0]) for part in parts))
  return Drawn(*(np.concatenate(column)[order] for column in zip(*parts, strict=True)))


def planned(drawn: Drawn) -> tuple[float, int]:
  """Returns the padding of planned rows, and how many hold the samples."""
  stocks = []
  for group in range(len(GROUPS)):
    own = drawn.group == group
    tokens = np.repeat(drawn.tokens[own].astype(np.int32)[:, None, None], 2, axis=2)
    records, pieces = np.arange(own.sum(), dtype=np.int32), drawn.image[own].astype(np.int32)[:, None] * MERGED
    stocks.append(Stock(tokens=tokens, pieces=pieces, records=records, style_dropout=0.0))
  shares = phases([share for share, _ in GROUPS.values()], [()] * len(GROUPS))
  planner = Planner(stocks, shares=shares, rows=64, length=LENGTH, pieces=IMAGE_TOKENS * MERGED, seed=0)
  rows = int(drawn.tokens.sum() / LENGTH) + 1
  state, seen = planner.begin(), 0
  for start in range(0, rows, 1024):
    made, state = planner.plan(state, min(1024, rows - start))
    seen += int(made.entries["tokens"].sum())
  return 1 - seen / (rows * LENGTH), rows


def first_fit(drawn: Drawn, *, bins: int) -> tuple[float, int]:
  """Returns the padding of grain's first fit; rows still open at the end are left out."""
  samples = [
    {"tokens": np.zeros(tokens, np.int8), "patches": np.zeros(image * MERGED, np.int8)}
    for tokens, image in zip(drawn.tokens.tolist(), drawn.image.tolist(), strict=True)
  ]
  stream = grain.MapDataset.source(samples).repeat().to_iter_dataset(grain.ReadOptions(num_threads=0))
  packed = grain.experimental.FirstFitPackIterDataset(
    stream, length_struct={"tokens": LENGTH, "patches": IMAGE_TOKENS * MERGED}, num_packing_bins=bins,
    shuffle_bins=False,
  )  # fmt: skip
  rows = max(int(drawn.tokens.sum() / LENGTH) // bins * bins, bins)
  full = sum(int((row["tokens_segment_ids"] > 0).sum()) for row in itertools.islice(packed, rows))
  return 1 - full / (rows * LENGTH), rows


def grouped(drawn: Drawn) -> tuple[float, int]:
  """Returns the padding of EMOVA's batches."""
  generator = np.random.default_rng(0)
  order = []
  for own in (drawn.image > 0, drawn.image == 0):
    members = generator.permutation(np.flatnonzero(own))
    for start in range(0, len(members), MEGABATCH):
      some = members[start : start + MEGABATCH]
      order.append(some[np.argsort(-drawn.words[some], kind="stable")])
  return padded(drawn, np.concatenate(order))


def padded(drawn: Drawn, order: np.ndarray) -> tuple[float, int]:
  """Returns the padding of batches of samples in this order, each padded to its longest."""
  places = sum(
    int(drawn.tokens[order[start : start + BATCH]].max()) * len(order[start : start + BATCH])
    for start in range(0, len(order), BATCH)
  )
  return 1 - drawn.tokens.sum() / places, -(-len(order) // BATCH)


if __name__ == "__main__":
  main()
