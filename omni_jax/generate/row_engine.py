"""Decoding of grids: one column a step, every row of it from its own head, what is certain forced.

What may come in a row depends on the column of the answer and on the ends so far, as `tokens.delays` lays it out:

    column      0   1   2   3   4   5   6        rows of codes, delays 1 and 2
    audio 0     pad c   c   END pad pad          only the first row chooses where it ends ...
    audio 1     pad pad c   c   END pad          ... the others follow, each its delay later
    text        t   t   END pad pad pad

The original (`generate_AA` and its kin in litgpt/generate/base.py) forces only the text's pads; so does this engine
with `constrained=False`, and its greedy entries are the original's. Constrained, an answer always reads back whole:
rows are of one length, codes are codes.

The heads are the largest matrices: a step reads only those that it needs, of the rows whose entries it chooses. Where
all texts are at their end, or given, no text is read; in pairs codes are those of half the rows, text of the others.

In pairs (the original's batch-parallel decoding) rows 2u and 2u + 1 of a batch answer one question: the first speaks,
the second only writes. The text of both is what the second would write, the codes are those of the first.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.core.arrays import Array, Key, bucket
from omni_jax.core.errors import UserError
from omni_jax.generate.engine import BLOCK, SMALLEST_PROMPT, Prompt, batch_rows, pad_batch
from omni_jax.generate.sampling import Sampling, choose
from omni_jax.tokens.mini_omni import MiniOmniLayout

_SMALLEST_GIVEN = 32
SPEAK, WRITE = "speak", "write"  # states of a prompt: an answer with codes, or of text alone


class RowProgress(NamedTuple):
  """A batch in the middle of decoding."""

  entries: Array  # int32 [B, R], the last column
  cache: Any  # of everything before it
  column: Array  # int32, its number in the answer
  ends: Array  # int32 [B, R], the column in which each row ended, -1 before
  speaks: Array  # bool [B]
  over: Array  # bool [B]
  given: Array  # int32 [B, N], text entries of the first columns that are given, -1 where they are chosen
  positions: Array  # int32 [B], of the last column
  key: Key


class _Rules(NamedTuple):
  """What decides on a column besides the model; the same for a whole answer."""

  layout: MiniOmniLayout
  num_pieces: int
  sampling: Sampling
  constrained: bool
  paired: bool


class RowEngine:
  """A model of several rows with the manner of its answers."""

  def __init__(
    self,
    model: Any,
    *,
    layout: MiniOmniLayout,
    num_pieces: int | None = None,
    sampling: Sampling | None = None,
    max_columns: int = 2048,
    constrained: bool = True,
  ):
    """Keeps the parts.

    Args:
      model: has `unrolled`, `empty_cache`, `prefill`, `step` and `group_logits`, as `models.mini_omni.MiniOmni`.
      layout: of its grid.
      num_pieces: text ids below this are written; those of the layout by default.
      sampling: how entries are chosen, in each row by itself.
      max_columns: most columns of prompt and answer together.
      constrained: whether only what an answer can hold is chosen.
    """
    self._model, self._layout, self._sampling = model.unrolled(), layout, sampling or Sampling()
    self._num_pieces = layout.num_pieces if num_pieces is None else num_pieces
    self._max_columns, self._constrained = max_columns, constrained

  def generate(
    self, prompts: Sequence[Prompt], *, max_new_columns: int, key: Key | None = None, paired: bool = False
  ) -> list[np.ndarray]:
    """Returns the answer to each prompt as entries int32 [R, S], its last end included.

    Args:
      prompts: any number, in pairs an even one, a speaking and a writing prompt in turn.
      max_new_columns: an answer that has not ended is cut here.
      key: random key, for a temperature above 0.
      paired: whether they are in pairs.
    """
    if not prompts:
      return []
    blocks = list(self.stream(prompts, max_new_columns=max_new_columns, key=key, paired=paired))
    whole = np.concatenate(blocks, axis=2)[: len(prompts)]
    return [row[:, row[-1] >= 0] for row in whole]

  def stream(
    self,
    prompts: Sequence[Prompt],
    *,
    max_new_columns: int,
    key: Key | None = None,
    paired: bool = False,
    block: int = BLOCK,
  ) -> Iterator[np.ndarray]:
    """Returns the answers in blocks of entries int32 [rows, R, up to `block`], -1 after the end of an answer.

    The first block is the first column, which the prompt alone decides. A column is handed on before the model reads
    it, so that N columns cost N passes, that of the prompt among them. There may be more rows than prompts (padding of
    the batch).
    """
    progress, first = self.prefill(prompts, max_new_columns=max_new_columns, key=key, paired=paired)
    yield np.asarray(first)[:, :, None]
    for start in range(1, max_new_columns, block):
      if np.asarray(progress.over).all():
        return
      limit, rules = min(block, max_new_columns - start), self._rules(paired)
      progress, columns, count = _decode(self._model, progress, limit, rules=rules, block=block)
      yield np.asarray(columns)[:, :, : int(count)]

  def prefill(
    self, prompts: Sequence[Prompt], *, max_new_columns: int, key: Key | None = None, paired: bool = False
  ) -> tuple[RowProgress, Array]:
    """Returns the batch with every prompt read and the first column chosen, and that column [B, R] as streams show it.

    Raises:
      UserError: a prompt too long for its answer, an unknown state, or prompts that are no pairs.
    """
    states = [prompt.state for prompt in prompts]
    if set(states) - {SPEAK, WRITE} or (paired and states != [SPEAK, WRITE] * (len(states) // 2)):
      raise UserError(
        f"prompts that {', '.join(states[:4])}",
        where="decoding of rows",
        rule=f"a prompt begins in {SPEAK!r} or {WRITE!r}; in pairs the two take turns",
        remedy="give each question once for its speech and once for its text",
      )
    longest = max(len(prompt.tokens) for prompt in prompts)
    if longest + max_new_columns > self._max_columns:
      raise UserError(
        f"a prompt of {longest} columns and an answer of up to {max_new_columns}",
        where="question",
        rule=f"together at most {self._max_columns} columns",
        remedy="ask something shorter (50 columns a second of speech), or ask for a shorter answer",
      )
    rows = batch_rows(len(prompts))
    filled = [*prompts, *list(prompts)[: 2 if paired else 1] * rows][:rows]
    batch = pad_batch(filled, length=bucket(longest, smallest=SMALLEST_PROMPT))
    states, cache = _prefill(self._model, batch, room=bucket(max_new_columns, smallest=BLOCK))
    number = self._layout.num_rows
    progress = RowProgress(
      jnp.zeros((rows, number), jnp.int32),
      cache,
      jnp.int32(-1),
      jnp.full((rows, number), -1, jnp.int32),
      jnp.array([prompt.state == SPEAK for prompt in filled]),
      jnp.arange(rows) >= len(prompts),
      jnp.asarray(_given(filled)),
      jnp.asarray((batch["segment_ids"] > 0).sum(axis=1) - 1, jnp.int32),
      jax.random.key(0) if key is None else key,
    )
    return _choose(self._model, progress, states, rules=self._rules(paired))

  def _rules(self, paired: bool) -> _Rules:
    pieces = self._num_pieces if self._constrained else self._layout.text_size
    return _Rules(self._layout, pieces, self._sampling, self._constrained, paired)


def _given(prompts: Sequence[Prompt]) -> np.ndarray:
  """Returns the given text of each prompt, int32 [B, N], of few possible lengths."""
  longest = max(len(prompt.given) for prompt in prompts)
  given = np.full((len(prompts), bucket(longest, smallest=_SMALLEST_GIVEN)), -1, np.int32)
  for row, prompt in zip(given, prompts, strict=True):
    row[: len(prompt.given)] = prompt.given
  return given


@functools.partial(jax.jit, static_argnames="room")
def _prefill(model: Any, batch: dict[str, Array], *, room: int) -> tuple[tuple[Array, Array], Any]:
  cache = model.empty_cache(batch["tokens"].shape[0], batch["tokens"].shape[1] + room)
  (codes, text), cache = model.prefill(batch, cache)
  return (codes[:, 0], text[:, 0]), cache


@functools.partial(jax.jit, static_argnames=("rules", "block"), donate_argnums=1)
def _decode(
  model: Any, progress: RowProgress, limit: Any, *, rules: _Rules, block: int
) -> tuple[RowProgress, Array, Array]:
  """Returns the batch up to `limit` columns later, the columns [B, R, block], -1 where over, and how many count."""
  firsts = jnp.array([row.first for row in rules.layout.rows])

  def unfinished(carry):
    _, progress, count = carry
    return (count < limit) & ~progress.over.all()

  def body(carry):
    columns, progress, count = carry
    last = (progress.entries + firsts)[:, None]
    (codes, text), cache = model.step(last, progress.positions[:, None], progress.cache)
    progress, shown = _chosen(model, progress._replace(cache=cache), (codes[:, 0], text[:, 0]), rules=rules)
    columns = jax.lax.dynamic_update_slice(columns, shown[:, :, None], (0, 0, count))
    return columns, progress, count + 1

  empty = jnp.full((progress.over.shape[0], rules.layout.num_rows, block), -1, jnp.int32)
  columns, progress, count = jax.lax.while_loop(unfinished, body, (empty, progress, jnp.int32(0)))
  return progress, columns, count


def _chosen(
  model: Any, progress: RowProgress, states: tuple[Array, Array], *, rules: _Rules
) -> tuple[RowProgress, Array]:
  """Returns the batch with the next column chosen from `states` [B, D], and it as int32 [B, R], -1 where over."""
  key, of_codes, of_text = jax.random.split(progress.key, 3)
  progress = progress._replace(column=progress.column + 1, positions=progress.positions + 1, key=key)
  codes = _codes(model, progress, states[0], rules=rules, key=of_codes)
  text = _text(model, progress, states[1], rules=rules, key=of_text)
  entries = jnp.concatenate([codes, text[:, None]], axis=1)
  ends = _ends(progress, entries, rules.layout)
  shown = jnp.where(progress.over[:, None], -1, entries)
  finished = jnp.where(progress.speaks, ends[:, -2], ends[:, -1]) >= 0
  if rules.paired:
    finished = jnp.repeat(finished[0::2], 2)
  return progress._replace(entries=entries, ends=ends, over=progress.over | finished), shown


_choose = jax.jit(_chosen, static_argnames="rules")


def _codes(model: Any, progress: RowProgress, states: Array, *, rules: _Rules, key: Key) -> Array:
  """Returns the entries of the audio rows, int32 [B, layers]; a row that only writes has pads."""
  layout, paired = rules.layout, rules.paired
  rows = slice(0, None, 2 if paired else 1)
  logits = _logits(model, states[rows], 0, needed=progress.speaks & ~progress.over)
  allowed = _allowed(progress, layout)[rows] if rules.constrained else jnp.ones(logits.shape, bool)
  size = logits.shape[-1]
  chosen = choose(logits.reshape(-1, size), allowed.reshape(-1, size), sampling=rules.sampling, key=key)
  chosen = chosen.reshape(logits.shape[:2])
  pads = jnp.array([row.pad for row in layout.audio_rows])
  return jnp.where(progress.speaks[:, None], jnp.repeat(chosen, 2, axis=0) if paired else chosen, pads)


def _logits(model: Any, states: Array, group: int, *, needed: Array) -> Array:
  """Returns the logits of a group of rows, [B, R, V]; zeros where no row of the batch needs them."""

  def read(states):
    return model.group_logits(states[:, None], group)[:, 0]

  shape = jax.eval_shape(read, states)
  return jax.lax.cond(needed.any(), read, lambda states: jnp.zeros(shape.shape, shape.dtype), states)


def _allowed(progress: RowProgress, layout: MiniOmniLayout) -> Array:
  """Returns bool [B, layers, V]: what the next column of an answer may hold."""
  rows, column, ends = layout.audio_rows, progress.column, progress.ends[:, :-1]
  delays = jnp.array([row.delay for row in rows])
  entries = jnp.arange(rows[0].size)
  is_pad, is_end, is_code = entries == rows[0].pad, entries == rows[0].end, entries < rows[0].num_codes
  waits = (column < delays) | (ends >= 0)  # before its first code, or behind its end
  first = ends[:, :1]
  must_end = (first >= 0) & (column == first + delays - delays[0])
  may_end = (jnp.arange(len(rows)) == 0) & (column > delays[0])
  content = jnp.where(must_end[..., None], is_end, is_code | (may_end[:, None] & is_end))
  return jnp.where(waits[..., None], is_pad, content)


def _text(model: Any, progress: RowProgress, states: Array, *, rules: _Rules, key: Key) -> Array:
  """Returns the entries of the text row, int32 [B]."""
  row, ended, most = rules.layout.text_row, progress.ends[:, -1] >= 0, progress.given.shape[1]
  given = jnp.where(progress.column < most, progress.given[:, jnp.minimum(progress.column, most - 1)], -1)
  needed = ~ended & (given < 0) & ~progress.over
  logits = _logits(model, states[1::2] if rules.paired else states, 1, needed=needed)[:, 0]
  entries = jnp.arange(row.size)
  allowed = jnp.broadcast_to((entries < rules.num_pieces) | (entries == row.end), logits.shape)
  chosen = choose(logits, allowed, sampling=rules.sampling, key=key)
  chosen = jnp.where(given >= 0, given, jnp.repeat(chosen, 2) if rules.paired else chosen)
  return jnp.where(ended, row.pad, chosen)


def _ends(progress: RowProgress, chosen: Array, layout: MiniOmniLayout) -> Array:
  """Returns the ends after the entries `chosen` [B, R] of this column."""
  is_end = chosen == jnp.array([row.end for row in layout.rows])
  return jnp.where((progress.ends < 0) & is_end, progress.column, progress.ends)
