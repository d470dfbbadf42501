"""A page with a picture of a device's memory over one step: how much is needed when, by what, and where it lies.

From left to right are the instructions in the order in which they run, bodies of loops once. Above is how much is
needed at once, on top of what is always there; below is the place of every buffer. Nothing is loaded from elsewhere:
one file, two drawings in SVG, the largest buffers of the fullest moment as a table.
"""

import html
from collections.abc import Iterator

from omni_jax.plan.memory import Buffer, Memory
from omni_jax.plan.report import Plan

_GIB = 2**30
_WIDTH, _HEIGHT, _LEFT, _TOP = 1000, 300, 60, 24  # of a drawing, in pixels
_SMALLEST = 0.5  # height in pixels below which a buffer is not drawn
_COLORS = {"gathered": "#4477aa", "forward": "#66aa66", "backward": "#cc7744", "other": "#999999"}
_NAMED = 12  # buffers that are listed

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.4 system-ui, sans-serif; max-width: 1080px; margin: 2em auto; padding: 0 1em; color: #222 }}
svg {{ width: 100%; height: auto }} text {{ font: 11px system-ui, sans-serif; fill: #444 }}
rect:hover {{ stroke: #000 }} pre {{ background: #f5f5f5; padding: 1em; overflow-x: auto }}
table {{ border-collapse: collapse }} td, th {{ padding: .2em .8em .2em 0; text-align: left; vertical-align: top }}
td {{ border-top: 1px solid #ddd }} td:first-child {{ text-align: right; white-space: nowrap }}
code {{ font-size: 12px; overflow-wrap: anywhere }}
</style></head><body>
<h1>{title}</h1>
<h2>Needed at once</h2>
<p>{summary}</p>
{curve}
<h2>Where it lies</h2>
<p>{legend}. Point at a buffer for its name; grey bands are loops, with how often they run.</p>
{places}
<h2>The fullest moment</h2>
<table><tr><th>size</th><th>shape</th><th>instruction</th><th>from</th></tr>
{rows}
</table>
<h2>The plan</h2>
<pre>{plan}</pre>
</body></html>
"""


def draw(plan: Plan, memory: Memory) -> str:
  """Returns the page as HTML.

  Args:
    plan: of the step.
    memory: of the same step, as the compiler laid it out.
  """
  peak = memory.peak
  most = memory.alive[peak] if memory.alive else 0
  summary = (
    f"{_gib(memory.held)} are always there (state, batch and results), {_gib(most)} more at the fullest moment, "
    f"instruction {peak:,} of {memory.instructions:,}; {_gib(memory.temporaries)} were laid out for it. "
    f"A device has {plan.memory_gib:.4g} GiB."
  )
  title = html.escape(f"{plan.run} on {plan.machine}: memory over a step")
  return _PAGE.format(
    title=title,
    summary=summary,
    curve=_curve(memory, peak=peak, limit=plan.memory_gib * _GIB),
    legend=", ".join(f'<b style="color:{color}">{kind}</b>' for kind, color in _COLORS.items()),
    places=_places(memory, peak=peak),
    rows="\n".join(_row(buffer) for buffer in memory.at(peak)[:_NAMED]),
    plan=html.escape(plan.table()),
  )


def _curve(memory: Memory, *, peak: int, limit: float) -> str:
  """Returns the drawing of what is needed at once."""
  top = max(memory.held + memory.temporaries, 1)
  most = limit if limit < 2 * top else 1.1 * top  # a device with far more room would flatten the curve
  x, y = _scale(memory.instructions), _heights(most)
  path = "".join(f"H{x(step):.1f}V{y(memory.held + size):.1f}" for step, size in enumerate(memory.alive))
  lines = [
    *_axes(memory, most),
    f'<rect x="{_LEFT}" y="{y(memory.held):.1f}" width="{_WIDTH}" height="{y(0) - y(memory.held):.1f}" fill="#bbb">'
    f"<title>always there: {_gib(memory.held)}</title></rect>",
    f'<path d="M{_LEFT},{y(memory.held):.1f}{path}H{_LEFT + _WIDTH}V{y(memory.held):.1f}Z" fill="#88aacc"/>',
    _level(y(memory.held + memory.temporaries), f"laid out: {_gib(memory.held + memory.temporaries)}"),
    f'<line x1="{x(peak):.1f}" x2="{x(peak):.1f}" y1="{_TOP}" y2="{y(0):.1f}" stroke="#c00" stroke-width="1"/>',
  ]
  if limit <= most:
    lines.append(_level(y(limit), f"a device has {_gib(limit)}"))
  return _svg(lines)


def _places(memory: Memory, *, peak: int) -> str:
  """Returns the drawing of every buffer in its place."""
  most = max(memory.temporaries, 1)
  x, y = _scale(memory.instructions), _heights(most)
  lines = list(_axes(memory, most))
  for buffer in sorted(memory.buffers, key=lambda buffer: -buffer.size):
    height = y(0) - y(buffer.size)
    if height < _SMALLEST:
      break
    wide, left, upper = x(buffer.end + 1) - x(buffer.start), x(buffer.start), y(buffer.offset + buffer.size)
    told = html.escape(f"{_gib(buffer.size)} {buffer.shape} {buffer.name}\n{buffer.source}", quote=True)
    lines.append(
      f'<rect x="{left:.1f}" y="{upper:.1f}" width="{wide:.1f}" height="{height:.1f}" fill="{_COLORS[_kind(buffer)]}" '
      f'fill-opacity="0.7" stroke="#fff" stroke-width="0.5"><title>{told}</title></rect>'
    )
    if height > 12 and wide > 7 * len(buffer.shape):
      lines.append(f'<text x="{left + 4:.1f}" y="{upper + 12:.1f}">{html.escape(buffer.shape)}</text>')
  lines.append(f'<line x1="{x(peak):.1f}" x2="{x(peak):.1f}" y1="{_TOP}" y2="{y(0):.1f}" stroke="#c00"/>')
  return _svg(lines)


def _axes(memory: Memory, most: float) -> Iterator[str]:
  """Yields marks of size on the left, and the loops as bands."""
  x, y = _scale(memory.instructions), _heights(most)
  for loop in memory.loops:
    left, wide = x(loop.start), x(loop.end + 1) - x(loop.start)
    times = "?" if loop.times is None else f"{loop.times:,}"
    yield f'<rect x="{left:.1f}" y="{_TOP}" width="{wide:.1f}" height="{_HEIGHT}" fill="#000" fill-opacity="0.06"/>'
    yield f'<text x="{left + 2:.1f}" y="{_TOP - 6}">{times} times</text>'
  for part in range(5):
    size = most * part / 4
    yield f'<text x="{_LEFT - 6}" y="{y(size) + 4:.1f}" text-anchor="end">{_gib(size)}</text>'


def _level(height: float, text: str) -> str:
  return (
    f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{height:.1f}" y2="{height:.1f}" stroke="#444" '
    f'stroke-dasharray="4 4"/><text x="{_LEFT + _WIDTH}" y="{height - 4:.1f}" text-anchor="end">{text}</text>'
  )


def _svg(lines: list[str]) -> str:
  return "\n".join([f'<svg viewBox="0 0 {_LEFT + _WIDTH + 10} {_TOP + _HEIGHT + 12}" role="img">', *lines, "</svg>"])


def _scale(instructions: int):
  return lambda step: _LEFT + _WIDTH * step / max(instructions, 1)


def _heights(most: float):
  return lambda size: _TOP + _HEIGHT * (1 - size / most)


def _kind(buffer: Buffer) -> str:
  """Returns what a buffer is, by the name of its instruction and where in the traced program it comes from."""
  if "all-gather" in buffer.name:
    return "gathered"
  if "transpose(" in buffer.source:
    return "backward"
  return "forward" if "jvp(" in buffer.source else "other"


def _row(buffer: Buffer) -> str:
  cells = (_gib(buffer.size), buffer.shape, buffer.name, buffer.source)
  return "<tr>" + "".join(f"<td><code>{html.escape(cell)}</code></td>" for cell in cells) + "</tr>"


def _gib(size: float) -> str:
  return f"{size / _GIB:.2f} GiB" if size >= _GIB / 10 else f"{size / 2**20:.3g} MiB"
