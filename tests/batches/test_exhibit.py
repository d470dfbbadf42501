import html
import re

import numpy as np
import pytest

from omni_jax.batches.exhibit import grid_html, page
from omni_jax.batches.meanings import vocabulary_meanings
from omni_jax.prepare.reader import open_set
from omni_jax.tokens.answers import NativeLayout
from omni_jax.tokens.dialogue import load_dialogue
from omni_jax.tokens.grid import Grid
from omni_jax.tokens.templates import TINY
from tests.batches.test_sources import make

CELL = re.compile(r'<span class="t ([a-z ]+)" title="([^"]+)">([^<]*)</span>')


@pytest.fixture
def dialogue(workdir):
  return load_dialogue(workdir / "text", template=TINY, layout=NativeLayout(text_chunk=2, unit_chunk=5))


@pytest.fixture
def meanings(dialogue):
  return vocabulary_meanings(dialogue.vocabulary, dialogue.tokenizer)


def test_every_token_is_shown_as_what_it_is(dialogue, meanings, workdir):
  write, records = make("dialogue", dialogue, workdir)
  grid = write.measure(records[0], hear_style=True).grid
  cells = CELL.findall(grid_html(grid, meanings=meanings))
  assert len(cells) == len(grid)
  units, image = dialogue.vocabulary.unit_of(), dialogue.vocabulary.control("image")
  for place, (classes, title, name) in enumerate(cells):
    token = int(grid.row[place])
    assert title.startswith(f"id {token}, position {grid.positions[place]}")
    assert ("learned" in classes.split()) == grid.learned[0, place]
    assert ("unit" in classes.split()) == (units[token] >= 0) and ("image" in classes.split()) == (token == image)
    if units[token] >= 0:
      assert name == str(units[token])
  whole = page(records[0], grid, meanings=meanings, view="dialogue", where="units/x <script>")
  assert "data:image/png;base64," in whole and "<script>" not in whole
  assert html.escape(records[0].turns[0].text) in whole


def test_sound_rows_and_branches_are_shown(dialogue, meanings, workdir):
  write, records = make("annotations", dialogue, workdir)
  grid = write.measure(next(record for record in records if len(record.turns) > 2), hear_style=False).grid
  begun = [place for place, cell in enumerate(CELL.findall(grid_html(grid, meanings=meanings))) if "branch" in cell[0]]
  np.testing.assert_array_equal(begun, np.flatnonzero(np.diff(grid.branches, prepend=0)))
  several = Grid(np.repeat(grid.tokens, 8, axis=0), np.repeat(grid.learned, 8, axis=0), grid.branches)
  assert len(CELL.findall(grid_html(several, meanings=meanings))) == 8 * len(grid)
  spoken = open_set(workdir / "units" / "speech", "train")[0]
  assert "units:" in page(spoken, grid, meanings=meanings, view="recognise", where="x")
