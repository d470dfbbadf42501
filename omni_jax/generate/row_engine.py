"""Decoding of grids: one column a step, every row of it from its own head, what is certain forced.

What may come in a row depends on the column of the answer and on the ends so far, as `tokens.delays` lays it out:

    column      0   1   2   3   4   5   6        rows of codes, delays 1 and 2
    audio 0     pad c   c   END pad pad          only the first row chooses where it ends ...
    audio 1     pad pad c   c   END pad          ... the others follow, each its delay later
    text        t   t   END pad pad pad

The original (`generate_AA` and its kin in litgpt/generate/base.py) forces only the text's pads; so does this engine
with `constrained=False`, and its greedy entries are the original's. Constrained, an answer always reads back whole:
rows are of one length, codes are codes.

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

  logits: tuple[Array, Array]  # [B, layers, V] of codes and [B, V] of text, of the column to come
  cache: Any
  column: Array  # int32, its number in the answer
  ends: Array  # int32 [B, R], the column in which each row ended, -1 before
  speaks: Array  # bool [B]
  over: Array  # bool [B]
  given: Array  # int32 [B, N], text entries of the first columns that are given, -1 where they are chosen
  positions: Array  # int32 [B], of the column to come
  key: Key


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
      model: has `empty_cache`, `prefill` and `step`, as `models.mini_omni.MiniOmni`.
      layout: of its grid.
      num_pieces: text ids below this are written; those of the layout by default.
      sampling: how entries are chosen, in each row by itself.
      max_columns: most columns of prompt and answer together.
      constrained: whether only what an answer can hold is chosen.
    """
    self._model, self._layout, self._sampling = model, layout, sampling or Sampling()
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

    There may be more rows than prompts (padding of the batch).
    """
    progress = self.prefill(prompts, max_new_columns=max_new_columns, key=key, paired=paired)
    for start in range(0, max_new_columns, block):
      progress, columns, count = _decode(
        self._model,
        progress,
        min(block, max_new_columns - start),
        layout=self._layout,
        num_pieces=self._num_pieces,
        sampling=self._sampling,
        constrained=self._constrained,
        paired=paired,
        block=block,
      )
      yield np.asarray(columns)[:, :, : int(count)]
      if np.asarray(progress.over).all():
        return

  def prefill(
    self, prompts: Sequence[Prompt], *, max_new_columns: int, key: Key | None = None, paired: bool = False
  ) -> RowProgress:
    """Returns the batch with every prompt read.

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
    logits, cache = _prefill(self._model, batch, room=bucket(max_new_columns, smallest=BLOCK))
    return RowProgress(
      logits,
      cache,
      jnp.int32(0),
      jnp.full((rows, self._layout.num_rows), -1, jnp.int32),
      jnp.array([prompt.state == SPEAK for prompt in filled]),
      jnp.arange(rows) >= len(prompts),
      jnp.asarray(_given(filled)),
      jnp.asarray((batch["segment_ids"] > 0).sum(axis=1), jnp.int32),
      jax.random.key(0) if key is None else key,
    )


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
  return (codes[:, 0], text[:, 0, 0]), cache


@functools.partial(
  jax.jit,
  static_argnames=("layout", "num_pieces", "sampling", "constrained", "paired", "block"),
  donate_argnums=1,
)
def _decode(
  model: Any,
  progress: RowProgress,
  limit: Any,
  *,
  layout: MiniOmniLayout,
  num_pieces: int,
  sampling: Sampling,
  constrained: bool,
  paired: bool,
  block: int,
) -> tuple[RowProgress, Array, Array]:
  """Returns the batch up to `limit` columns later, the columns [B, R, block], -1 where over, and how many count."""
  firsts = jnp.array([row.first for row in layout.rows])

  def unfinished(carry):
    _, progress, count = carry
    return (count < limit) & ~progress.over.all()

  def body(carry):
    columns, progress, count = carry
    key, of_codes, of_text = jax.random.split(progress.key, 3)
    codes = _codes(progress, layout, sampling=sampling, constrained=constrained, key=of_codes)
    pieces = num_pieces if constrained else layout.text_size
    text = _text(progress, layout, num_pieces=pieces, sampling=sampling, paired=paired, key=of_text)
    chosen = jnp.concatenate([codes, text[:, None]], axis=1)
    ends = _ends(progress, chosen, layout)
    shown = jnp.where(progress.over[:, None], -1, chosen)
    columns = jax.lax.dynamic_update_slice(columns, shown[:, :, None], (0, 0, count))
    finished = jnp.where(progress.speaks, ends[:, -2], ends[:, -1]) >= 0
    if paired:
      finished = jnp.repeat(finished[0::2], 2)
    (next_codes, next_text), cache = model.step((chosen + firsts)[:, None], progress.positions[:, None], progress.cache)
    after = progress._replace(
      logits=(next_codes[:, 0], next_text[:, 0, 0]),
      cache=cache,
      column=progress.column + 1,
      ends=ends,
      over=progress.over | finished,
      positions=progress.positions + 1,
      key=key,
    )
    return columns, after, count + 1

  empty = jnp.full((progress.over.shape[0], layout.num_rows, block), -1, jnp.int32)
  columns, progress, count = jax.lax.while_loop(unfinished, body, (empty, progress, jnp.int32(0)))
  return progress, columns, count


def _codes(progress: RowProgress, layout: MiniOmniLayout, *, sampling: Sampling, constrained: bool, key: Key) -> Array:
  """Returns the entries of the audio rows, int32 [B, layers]; a row that only writes has pads."""
  logits = progress.logits[0]
  allowed = _allowed(progress, layout) if constrained else jnp.ones(logits.shape, bool)
  size = logits.shape[-1]
  chosen = choose(logits.reshape(-1, size), allowed.reshape(-1, size), sampling=sampling, key=key)
  pads = jnp.array([row.pad for row in layout.audio_rows])
  return jnp.where(progress.speaks[:, None], chosen.reshape(logits.shape[:2]), pads)


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


def _text(
  progress: RowProgress, layout: MiniOmniLayout, *, num_pieces: int, sampling: Sampling, paired: bool, key: Key
) -> Array:
  """Returns the entries of the text row, int32 [B]."""
  row, logits = layout.text_row, progress.logits[1]
  if paired:
    logits = logits[1::2]
  entries = jnp.arange(row.size)
  allowed = jnp.broadcast_to((entries < num_pieces) | (entries == row.end), logits.shape)
  chosen = choose(logits, allowed, sampling=sampling, key=key)
  if paired:
    chosen = jnp.repeat(chosen, 2)
  most = progress.given.shape[1]
  given = jnp.where(progress.column < most, progress.given[:, jnp.minimum(progress.column, most - 1)], -1)
  chosen = jnp.where(given >= 0, given, chosen)
  return jnp.where(progress.ends[:, -1] >= 0, row.pad, chosen)


def _ends(progress: RowProgress, chosen: Array, layout: MiniOmniLayout) -> Array:
  """Returns the ends after the entries `chosen` [B, R] of this column."""
  is_end = chosen == jnp.array([row.end for row in layout.rows])
  return jnp.where((progress.ends < 0) & is_end, progress.column, progress.ends)
