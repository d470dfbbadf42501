"""What is in a record set: how much of what, how long, in which styles; what occurs twice, and what leaks where.

A record's content is its image's bytes, its words, small letters without signs, so that `the cat.` and `The cat` are
the same, and its sound: its units, or its bytes where it has none. What two splits share is counted by sample (all of
these), by image, and by what is said: the words of a turn that stands alone, which a recogniser would know before.
"""

import collections
import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from omni_jax.prepare.audio import sound_length
from omni_jax.prepare.images import image_size
from omni_jax.prepare.schema import Example

UNITS_PER_SECOND = 25
KINDS = ("sample", "image", "words")  # of content that may be shared
_SHOWN = 3  # ids beside each finding


@dataclasses.dataclass
class Survey:
  """One split.

  Attributes:
    name: set and split.
    records: number of them.
    tasks, styles, heard, voices: how often each occurs; styles and voices by turn with sound.
    turns: number of them.
    seconds: of sound, in files or as units.
    images: number of them.
    pixels: of each image's area.
    lengths: by what is counted (words, units, and text tokens where a tokenizer is given) of each record.
    contents: by kind of content: digest -> ids of the records that have it.
  """

  name: str
  records: int = 0
  turns: int = 0
  seconds: float = 0.0
  images: int = 0
  tasks: collections.Counter = dataclasses.field(default_factory=collections.Counter)
  styles: collections.Counter = dataclasses.field(default_factory=collections.Counter)
  heard: collections.Counter = dataclasses.field(default_factory=collections.Counter)
  voices: collections.Counter = dataclasses.field(default_factory=collections.Counter)
  pixels: list[int] = dataclasses.field(default_factory=list)
  lengths: dict[str, list[int]] = dataclasses.field(default_factory=lambda: collections.defaultdict(list))
  contents: dict[str, dict[bytes, list[str]]] = dataclasses.field(
    default_factory=lambda: {kind: collections.defaultdict(list) for kind in KINDS}
  )

  def add(self, example: Example, *, count_tokens: Callable[[str], int] | None = None) -> None:
    """Counts one record; with `count_tokens` also the tokens of its texts."""
    self.records += 1
    self.tasks[example.task] += 1
    self.turns += len(example.turns)
    for turn in example.turns:
      if turn.audio or len(turn.units):
        self.seconds += _seconds(turn.audio) if turn.audio else len(turn.units) / UNITS_PER_SECOND
        self.voices[turn.voice or "unknown"] += 1
        self.styles[turn.style or "unknown"] += 1
        self.heard[turn.heard or "not heard"] += 1
    self.lengths["words"].append(sum(len(turn.text.split()) for turn in example.turns))
    self.lengths["units"].append(sum(len(turn.units) for turn in example.turns))
    if count_tokens is not None:
      self.lengths["text tokens"].append(sum(count_tokens(turn.text) for turn in example.turns))
    if example.image:
      self.images += 1
      self.pixels.append(math.prod(image_size(example.image)))
    for kind, content in _contents(example).items():
      self.contents[kind][content].append(example.id)

  @property
  def twice(self) -> list[list[str]]:
    """The ids of records that are the same sample."""
    return [ids for ids in self.contents["sample"].values() if len(ids) > 1]


def survey(name: str, examples: Iterable[Example], *, count_tokens: Callable[[str], int] | None = None) -> Survey:
  """Returns what is in a split."""
  found = Survey(name)
  for example in examples:
    found.add(example, count_tokens=count_tokens)
  return found


def leaks(one: Survey, other: Survey) -> dict[str, list[tuple[str, str]]]:
  """Returns by kind of content the pairs of ids (the first in `one`, the first in `other`) that share some."""
  return {
    kind: [
      (ids[0], other.contents[kind][content][0])
      for content, ids in one.contents[kind].items()
      if content in other.contents[kind]
    ]
    for kind in KINDS
  }


def described(found: Survey) -> list[str]:
  """Returns the lines that say what is in a split."""
  lines = [f"{found.name}: {found.records} records, {found.turns} turns; {_counted(found.tasks)}"]
  if found.seconds:
    lines.append(
      f"  sound: {found.seconds / 3600:.2f} h, {found.seconds / max(sum(found.voices.values()), 1):.1f} s a turn"
    )
    lines.append(f"  voices: {_counted(found.voices)}")
    lines.append(f"  styles: {_skew(found.styles)}")
    if set(found.heard) != {"not heard"}:
      lines.append(f"  heard:  {_skew(found.heard)}")
  if found.images:
    smallest, middle, largest = np.percentile(found.pixels, (0, 50, 100)) ** 0.5
    lines.append(f"  images: {found.images}, of {smallest:.0f} to {largest:.0f} pixels a side, median {middle:.0f}")
  for name, lengths in found.lengths.items():
    if any(lengths):
      lines += _histogram(name, lengths)
  texts = found.contents["words"]
  if texts:
    lines.append(f"  texts:  {len(texts)} different in {sum(map(len, texts.values()))} records of one turn")
  if found.twice:
    ids = "; ".join(" = ".join(same[:_SHOWN]) for same in found.twice[:_SHOWN])
    lines.append(f"  twice:  {sum(len(same) - 1 for same in found.twice)} records are copies of others, such as {ids}")
  return lines


def leak_lines(one: Survey, other: Survey) -> list[str]:
  """Returns the lines that say what two splits share, one for each kind of content that they do."""
  found = leaks(one, other)
  shown = {kind: ", ".join(f"{first} = {second}" for first, second in pairs[:_SHOWN]) for kind, pairs in found.items()}
  return [
    f"  {one.name} and {other.name} share {len(pairs)} of {len(other.contents[kind])} {_NAMES[kind]}: {shown[kind]}"
    for kind, pairs in found.items()
    if pairs
  ]


_NAMES: Mapping[str, str] = {"sample": "samples", "image": "images", "words": "utterances and texts"}


def _contents(example: Example) -> dict[str, bytes]:
  words = [_plain(turn.text) for turn in example.turns]
  sounds = [turn.units.tobytes() or turn.audio for turn in example.turns]
  contents = {"sample": _digest(example.image, *(text.encode() for text in words), *sounds)}
  if example.image:
    contents["image"] = _digest(example.image)
  elif len(words) == 1 and words[0]:
    contents["words"] = _digest(words[0].encode())
  return contents


def _digest(*parts: bytes) -> bytes:
  found = hashlib.blake2b(digest_size=16)
  for part in parts:
    found.update(len(part).to_bytes(8, "little") + part)
  return found.digest()


def _plain(text: str) -> str:
  return " ".join("".join(sign if sign.isalnum() else " " for sign in text.lower()).split())


def _seconds(audio: bytes) -> float:
  length = sound_length(audio)
  return length.samples / length.sample_rate


def _counted(counts: collections.Counter) -> str:
  return ", ".join(f"{name} {count}" for name, count in counts.most_common(8)) + (" ..." if len(counts) > 8 else "")


def _skew(counts: collections.Counter) -> str:
  """Returns the shares of the parts of styles, and how much more often the commonest style occurs than the rarest."""
  total, parts = sum(counts.values()), [collections.Counter() for _ in range(3)]
  for style, count in counts.items():
    for place, part in zip(parts, style.split("-") if style.count("-") == 2 else [style] * 3, strict=True):
      place[part] += count
  shares = "; ".join(", ".join(f"{name} {count / total:.0%}" for name, count in part.most_common()) for part in parts)
  if len(set(counts.values())) == 1:
    return f"{shares}; all as often"
  commonest, rarest = max(counts.items(), key=lambda item: item[1]), min(counts.items(), key=lambda item: item[1])
  return f"{shares}; {commonest[0]} occurs {commonest[1] / rarest[1]:.1f} times as often as {rarest[0]}"


def _histogram(name: str, lengths: list[int], *, bins: int = 8, width: int = 40) -> list[str]:
  """Returns how many records are how long, as bars."""
  counts, edges = np.histogram(lengths, bins=min(bins, max(lengths) - min(lengths) + 1))
  mean, high = np.mean(lengths), np.percentile(lengths, 99)
  lines = [f"  {name} of a record: {sum(lengths)} in all, mean {mean:.1f}, 99 % below {high:.0f}"]
  for count, low, top in zip(counts, edges[:-1], edges[1:], strict=True):
    lines.append(f"    {low:6.0f} to {top:6.0f} {'#' * round(width * count / counts.max()):<{width}} {count}")
  return lines
