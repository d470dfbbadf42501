"""The text of a compiled program: its computations, and how often each line of them runs.

One computation stands after another. A loop names its body and its condition; how often it runs the CPU's compiler
writes beside it, while the TPU's leaves it to the condition, which compares a counter with a constant:

    %w = (s32[], ...) while(%start), condition=%c, body=%b, backend_config={"known_trip_count":{"n":"32"}}

    %start = (s32[], ...) tuple(%zero, ...)
    %c     ROOT %lt = pred[] compare(%counter, %constant.3), direction=LT          %constant.3 = s32[] constant(32)
    %b     ROOT %t = (s32[], ...) tuple(%next, ...)           %next = s32[] add(%counter, %one)

The TPU's compiler also writes, beside what it has scheduled, how many cycles it expects that to take; kernels and
collectives have no such figure.
"""

import re
from collections.abc import Iterator

KERNEL = 'custom_call_target="tpu_custom_call"'  # what a Pallas kernel is called by in the text

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{\s*$")
_OPERATION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*)$")
_CALL = re.compile(r"(?:calls|to_apply|body|branch_computations|called_computations)=\{?(%?[\w.\-]+(?:, ?%?[\w.\-]+)*)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_UNKNOWN = 2**62  # from here on a figure means that there is none: gathers that another core does
_CONSTANT = re.compile(r"= [su]\d+\[\]\S* constant\((-?\d+)\)")


class ScheduledProgram:
  """A compiled program.

  Attributes:
    unread: number of loops of which it cannot be read how often they run; they count once.
  """

  def __init__(self, text: str):
    """Reads the computations from `Compiled.as_text()` or a dump."""
    self._bodies: dict[str, list[str]] = {}
    self._entry = name = ""
    for line in text.splitlines():
      head = _HEAD.match(line)
      if head:
        name = head[2]
        self._bodies[name] = []
        self._entry = name if head[1] else self._entry
      elif name and _OPERATION.match(line):
        self._bodies[name].append(line)
    self._lines = {
      (name, found[1]): line
      for name, lines in self._bodies.items()
      for line in lines
      if (found := _OPERATION.match(line)) is not None
    }
    loops = [(name, line) for name, lines in self._bodies.items() for line in lines if _is_loop(line)]
    self._trips = {line: self._rounds(name, line) for name, line in loops}
    self.unread = sum(trips is None for trips in self._trips.values())

  def lines(self) -> Iterator[tuple[str, str, int]]:
    """Yields every line that runs: its computation, the line, and how often it does; of a choice, all ways."""
    yield from self._walk(self._entry, 1)

  def named(self) -> Iterator[tuple[str, str]]:
    """Yields the name of every instruction, each stands once, and its line."""
    yield from ((name, line) for (_, name), line in self._lines.items())

  def loops(self) -> Iterator[tuple[list[str], int | None]]:
    """Yields the names of all that runs in a loop, and how often it does, None if unread; outer loops come first."""
    yield from self._loops(self._entry)

  def cycles(self) -> int:
    """Returns the cycles of one run that the compiler expects, of a choice those of the dearest way; 0 if unsaid."""
    return self._cycles(self._entry, {})

  def _walk(self, name: str, times: int) -> Iterator[tuple[str, str, int]]:
    for line in self._bodies.get(name, ()):
      yield name, line, times
      for inner in _called(line):
        yield from self._walk(inner, times * (self._trips.get(line) or 1))

  def _loops(self, name: str) -> Iterator[tuple[list[str], int | None]]:
    for line in self._bodies.get(name, ()):
      for inner in _called(line):
        if line in self._trips:
          yield self._inside(inner), self._trips[line]
        yield from self._loops(inner)

  def _inside(self, name: str) -> list[str]:
    """Returns the names of the instructions of a computation and of those that it calls."""
    lines = [(found[1], line) for line in self._bodies.get(name, ()) if (found := _OPERATION.match(line))]
    below = [each for _, line in lines for inner in _called(line) for each in self._inside(inner)]
    return [name for name, _ in lines] + below

  def _cycles(self, name: str, known: dict[str, int]) -> int:
    if name not in known:
      known[name] = 0  # nothing calls itself
      for line in self._bodies.get(name, ()):
        found = _CYCLES.search(line)
        inside = [self._cycles(inner, known) for inner in _called(line)]
        spent = max(inside, default=0) if " conditional(" in line else sum(inside)
        own = int(found[1]) if found else 0
        known[name] += (own if own < _UNKNOWN else 0) + spent * (self._trips.get(line) or 1)
    return known[name]

  def _rounds(self, name: str, line: str) -> int | None:
    """Returns how often a loop runs, None if that cannot be read."""
    written = _TRIPS.search(line)
    if written:
      return int(written[1])
    parts = re.search(r" while\(%?([\w.\-]+)\), condition=%?([\w.\-]+), body=%?([\w.\-]+)", line)
    if parts is None:
      return None
    first, condition, body = parts.groups()
    root = next((each for each in self._bodies.get(condition, ()) if each.lstrip().startswith("ROOT")), "")
    compared = re.search(r" compare\(%?([\w.\-]+), %?([\w.\-]+)\), direction=LT", root)
    if compared is None:
      return None
    place = re.search(r"index=(\d+)", self._lines.get((condition, compared[1]), ""))
    limit = self._number(condition, compared[2])
    if place is None or limit is None:
      return None
    last = next((each for each in self._bodies.get(body, ()) if each.lstrip().startswith("ROOT")), "")
    begin = self._number(name, _member(self._lines.get((name, first), ""), int(place[1])))
    step = self._increment(body, _member(last, int(place[1])))
    return -(-(limit - (begin or 0)) // (step or 1))

  def _increment(self, body: str, name: str) -> int | None:
    """Returns what is added to a counter, None if that cannot be read."""
    line = self._lines.get((body, name), "")
    if " copy(" in line:
      return self._increment(body, _operands(line)[0])
    if " add(" not in line:
      return None
    numbers = [self._number(body, operand) for operand in _operands(line)]
    return next((number for number in numbers if number), None)

  def _number(self, computation: str, name: str) -> int | None:
    """Returns the value of a constant, through copies of it."""
    line = self._lines.get((computation, name), "")
    if " copy(" in line:
      return self._number(computation, _operands(line)[0])
    found = _CONSTANT.search(line)
    return int(found[1]) if found else None


def _is_loop(line: str) -> bool:
  return " while(" in line


def _called(line: str) -> list[str]:
  """Returns the computations that a line runs, but the condition of a loop."""
  return [name.lstrip("%") for names in _CALL.findall(line) for name in re.split(r", ?", names)]


def _operands(line: str) -> list[str]:
  found = re.search(r"[\])}] [a-z\-]+\(([^)]*)\)", line.partition(" = ")[2])
  names = re.sub(r"/\*.*?\*/", "", found[1]).split(",") if found else []
  return [name.strip().split(" ")[-1].lstrip("%") for name in names]


def _member(line: str, place: int) -> str:
  """Returns the name of one operand of a tuple, nothing if there is none."""
  names = _operands(line) if " tuple(" in line else []
  return names[place] if place < len(names) else ""
