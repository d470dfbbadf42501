"""What is alive in a device's memory over a step: every buffer with its place, its size and how long it is needed.

Read from two files that the compilers of XLA dump for any machine. One says which instructions a value is alive
between, in the order in which they run (bodies of loops once, before the loop itself); the other where it lies:

    BufferLiveRange:                    allocation 420: size 7433322496, page 0, preallocated-temp:
      fusion.21{}:393-398                value: <2031 fusion.21 @0> (size=2048,offset=512): bf16[16,64]{1,0}

Values that lie in one place one after another, as those that go round a loop do, are one buffer. A compiler for TPUs
tells memories other than the device's main one by a color; of these nothing is kept.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from omni_jax.plan.scheduled import ScheduledProgram

_PLACES = "-buffer-assignment.txt"  # beside it lie -live-range.txt and .txt, the program itself
_ALLOCATION = re.compile(r"^allocation (\d+): size (\d+)(, color \d+)?(?:, page \d+)?, (.*):$")
_VALUE = re.compile(r"^ value: <\d+ (\S+?)(?:\{([\d,]*)\})?(?: \(phi\))? @\d+> \(size=(\d+),offset=(\d+)\): (\S+)")
_RANGE = re.compile(r"^    (\S+?)\{([\d,]*)\}:(\d+)-(\d+)$")
_SOURCE = re.compile(r'op_name="([^"]*)"')


class Buffer(NamedTuple):
  """A place in memory while it is needed for one thing.

  Attributes:
    name: of the instruction that fills it.
    shape: as the compiler writes it.
    source: the path of the operation in the traced program, empty if unsaid.
    start: number of the instruction that fills it.
    end: number of the last that reads it.
    offset: in bytes, among the temporaries.
    size: in bytes.
  """

  name: str
  shape: str
  source: str
  start: int
  end: int
  offset: int
  size: int


class Loop(NamedTuple):
  """Instructions that run more than once; `times` is None where that cannot be read."""

  start: int
  end: int
  times: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
  """The main memory of one device over a step.

  Attributes:
    instructions: number of them.
    held: bytes of what is there from beginning to end: state, batch and results.
    temporaries: bytes of the place laid out for everything else.
    buffers: of that place, by their beginning.
    loops: outer ones before the inner ones.
  """

  instructions: int
  held: int
  temporaries: int
  buffers: tuple[Buffer, ...]
  loops: tuple[Loop, ...]

  @functools.cached_property
  def alive(self) -> tuple[int, ...]:
    """The bytes of temporaries that are needed at each instruction; a byte that two share counts once."""
    steps: list[list[Buffer]] = [[] for _ in range(self.instructions)]
    for buffer in self.buffers:
      for step in range(buffer.start, buffer.end + 1):
        steps[step].append(buffer)
    return tuple(_covered(there) for there in steps)  # seconds for a large program

  @property
  def peak(self) -> int:
    """The number of the instruction at which most is alive, the first of several."""
    return self.alive.index(max(self.alive)) if self.alive else 0

  def at(self, step: int) -> list[Buffer]:
    """Returns the buffers alive at an instruction, the largest first; of those in one place the first."""
    there: dict[tuple[int, int], Buffer] = {}
    for buffer in self.buffers:
      if buffer.start <= step <= buffer.end:
        there.setdefault((buffer.offset, buffer.size), buffer)
    return sorted(there.values(), key=lambda buffer: -buffer.size)


def read_memory(folder: Path) -> Memory | None:
  """Returns what a compiler's dump of a step says of memory, None if it says nothing.

  Of several programs in the folder the one with most temporaries is taken.
  """
  found = [_read(path) for path in sorted(folder.glob(f"*{_PLACES}"))]
  return max((one for one in found if one is not None), key=lambda one: one.temporaries, default=None)


def _read(path: Path) -> Memory | None:
  ranges_path, text_path = (path.with_name(path.name.replace(_PLACES, end)) for end in ("-live-range.txt", ".txt"))
  if not ranges_path.exists() or not text_path.exists():
    return None
  program = ScheduledProgram(text_path.read_text())
  order, ranges = _ranges(ranges_path.read_text())
  held, temporaries, placed = _places(path.read_text())
  sources = {name: found[1] for name, line in program.named() if (found := _SOURCE.search(line))}
  buffers = [
    Buffer(name, shape, sources.get(name, ""), *ranges[name, index], offset, size)
    for name, index, shape, offset, size in placed
    if (name, index) in ranges
  ]
  return Memory(
    instructions=len(order),
    held=held,
    temporaries=temporaries,
    buffers=tuple(_joined(buffers)),
    loops=tuple(_loops(order, program)),
  )


def _ranges(text: str) -> tuple[dict[str, int], dict[tuple[str, str], tuple[int, int]]]:
  """Returns the number of every instruction, and the first and last of every value."""
  numbered, _, rest = text.partition("BufferLiveRange:")
  order = {name: int(number) for number, name in re.findall(r"^    (\d+):(\S+)$", numbered, re.MULTILINE)}
  values = (_RANGE.match(line) for line in rest.partition("Live ranges at")[0].splitlines())
  last = len(order) - 1
  return order, {(one[1], one[2]): (int(one[3]), min(int(one[4]), last)) for one in values if one is not None}


def _places(text: str) -> tuple[int, int, list[tuple[str, str, str, int, int]]]:
  """Returns bytes held, bytes of temporaries, and of every temporary value name, index, shape, offset and size."""
  held, temporaries, inside = 0, 0, False
  placed: list[tuple[str, str, str, int, int]] = []
  for line in text.splitlines():
    allocation = _ALLOCATION.match(line)
    if allocation:
      number, kind = int(allocation[2]), allocation[4]
      inside = kind == "preallocated-temp" and allocation[3] is None
      temporaries += number if inside else 0
      held += number if allocation[3] is None and ("parameter" in kind or "live-out" in kind) else 0
    elif inside and (value := _VALUE.match(line)):
      placed.append((value[1], value[2] or "", value[5].partition("{")[0], int(value[4]), int(value[3])))
  return held, temporaries, placed


def _joined(buffers: list[Buffer]) -> Iterator[Buffer]:
  """Yields buffers by their beginning, those in one place that follow on each other as one."""
  open_: dict[tuple[int, int], Buffer] = {}
  done = []
  for buffer in sorted(buffers, key=lambda buffer: (buffer.start, -buffer.end)):
    place = (buffer.offset, buffer.size)
    before = open_.get(place)
    if before is not None and buffer.start <= before.end:
      open_[place] = before._replace(end=max(before.end, buffer.end), source=before.source or buffer.source)
    else:
      done += [before] if before is not None else []
      open_[place] = buffer
  yield from sorted([*done, *open_.values()], key=lambda buffer: buffer.start)


def _loops(order: dict[str, int], program: ScheduledProgram) -> Iterator[Loop]:
  """Yields the loops that run, outer ones first."""
  for names, times in program.loops():
    numbers = [order[name] for name in names if name in order]
    if numbers:
      yield Loop(min(numbers), max(numbers), times)


def _covered(buffers: list[Buffer]) -> int:
  """Returns the bytes that some buffers cover together."""
  total = reached = 0
  for offset, size in sorted((buffer.offset, buffer.size) for buffer in buffers):
    total += max(0, offset + size - max(reached, offset))
    reached = max(reached, offset + size)
  return total
