"""One record as a page: its image, its sound, its words, and the grid of tokens that the model is given of it.

A token is coloured by its kind and underlined where it is learned; its id, position and branch are told where the
pointer rests. A grid of several rows is drawn as a table, a column for each step.
"""

import base64
import html
from collections.abc import Sequence

import numpy as np

from omni_jax.batches.meanings import KINDS, Meanings
from omni_jax.prepare.schema import Example, Turn
from omni_jax.tokens.grid import Grid

_STYLE_SHEET = """
body { font: 15px/1.55 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: #1d2433; margin: 32px auto;
  max-width: 1080px; padding: 0 24px; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 28px 0 6px; }
.soft { color: #5b6476; font-size: 13px; }
img { max-width: 420px; max-height: 420px; border: 1px solid #e3e7ee; border-radius: 8px; image-rendering: pixelated; }
.turn { border: 1px solid #e3e7ee; border-radius: 10px; padding: 10px 14px; margin: 10px 0; }
.grid { overflow-x: auto; line-height: 2; }
.rows { display: table; border-spacing: 2px; } .rows .row { display: table-row; white-space: nowrap; }
.rows .t { display: table-cell; text-align: center; }
.t { border-radius: 4px; padding: 1px 4px; margin: 1px; font: 12px ui-monospace, "DejaVu Sans Mono", monospace;
  border-bottom: 3px solid transparent; display: inline-block; line-height: 1.4; }
.learned { border-bottom-color: #1d2433; font-weight: 600; }
.text { background: #f0f2f6; } .unit { background: #cfe0fb; } .style { background: #fbe2c0; }
.image { background: #cdebd9; } .heard { background: #c9ebef; } .control { background: #e6dcf5; }
.none { background: #f7d4cd; }
.branch { border-left: 3px solid #c2452d; }
"""


def page(example: Example, grid: Grid, *, meanings: Meanings, view: str, where: str) -> str:
  """Returns an HTML page that stands alone.

  Args:
    example: the record.
    grid: what the view makes of it.
    meanings: of its ids.
    view: its name.
    where: the record comes from, for the headline.
  """
  legend = " ".join(f'<span class="t {name}">{name}</span>' for name in KINDS)
  image = f'<p><img src="{_data(example.image, "image/png")}" alt="its image"></p>' if example.image else ""
  turns = "".join(_turn(turn) for turn in example.turns)
  count = f"{grid.tokens.shape[0]} rows of {len(grid)} tokens, {int(grid.learned.sum())} learned"
  return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(example.id)}</title>
<style>{_STYLE_SHEET}</style></head><body>
<h1>{html.escape(example.id)}</h1>
<p class="soft">{html.escape(where)} · task {html.escape(example.task)}</p>
{image}
<h2>Turns</h2>
{turns}
<h2>As {html.escape(view)}</h2>
<p class="soft">{count} · {legend} <span class="t text learned">learned</span>
  <span class="t text branch">a branch begins</span></p>
<div class="grid">{grid_html(grid, meanings=meanings)}</div>
</body></html>
"""


def grid_html(grid: Grid, *, meanings: Meanings) -> str:
  """Returns the rows of a grid, a coloured cell for each token."""
  known = {token: meanings(token) for token in np.unique(grid.tokens).tolist()}
  begins, positions = np.diff(grid.branches, prepend=grid.branches[:1]) != 0, grid.positions
  rows = []
  for tokens, learned in zip(grid.tokens.tolist(), grid.learned, strict=True):
    cells = []
    for column, token in enumerate(tokens):
      kind, name = known[token]
      marks = [kind, *(["learned"] if learned[column] else []), *(["branch"] if begins[column] else [])]
      told = f"id {token}, position {positions[column]}, branch {grid.branches[column]}"
      cells.append(f'<span class="t {" ".join(marks)}" title="{told}">{html.escape(name)}</span>')
    rows.append(f'<div class="row">{"".join(cells)}</div>')
  return "\n".join(rows) if len(rows) == 1 else "\n".join(['<div class="rows">', *rows, "</div>"])


def _turn(turn: Turn) -> str:
  told = {"style": turn.style, "heard": turn.heard, "voice": turn.voice, "phones": turn.phones}
  facts = " · ".join(f"{name} {html.escape(value)}" for name, value in told.items() if value)
  sound = f'<p><audio controls src="{_data(turn.audio, "audio/flac")}"></audio></p>' if turn.audio else ""
  units = f'<p class="soft">{len(turn.units)} units: {_shortened(turn.units)}</p>' if len(turn.units) else ""
  words = html.escape(turn.text) or '<span class="soft">nothing</span>'
  return f"""<div class="turn"><b>{html.escape(turn.role)}</b> {words}
<div class="soft">{facts}</div>{sound}{units}</div>"""


def _shortened(units: Sequence[int], most: int = 40) -> str:
  shown = " ".join(str(int(unit)) for unit in units[:most])
  return shown + (" ..." if len(units) > most else "")


def _data(content: bytes, kind: str) -> str:
  return f"data:{kind};base64,{base64.b64encode(content).decode()}"
