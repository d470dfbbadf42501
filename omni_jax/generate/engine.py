"""Batched decoding with a key-value cache: prompts in, ids out, few compilations.

Prompts of different length share a batch, padded on the right to a length of few possible ones; the cache holds prompt
and answer. Tokens are decoded in blocks by one compiled loop that stops early when every row is over, so a caller may
read the blocks as they come (a stream) or wait for the last.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.core.arrays import Array, Key, bucket
from omni_jax.core.errors import UserError
from omni_jax.generate.constraints import OVER, Automaton
from omni_jax.generate.sampling import Sampling, choose

SMALLEST_PROMPT = 32
_SMALLEST_ANSWER = 16
BLOCK = 64
_LARGE_BATCH = 128  # rows
# Of answers that are scored at once: 128 MiB of scores for each head, half a GiB of logits.
_MOST_SCORES, _MOST_LOGITS = 1 << 25, 1 << 27


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
  """What one row reads, and the state of the automaton in which its answer begins."""

  tokens: np.ndarray  # int32 [T], of a grid of several rows [T, R]
  state: str
  # Images or recordings, as the model reads them, without batch.
  images: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  # Of a grid of several rows: entries int32 [N] of the answer's text that are given, not chosen (a text to be said).
  given: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))


def prompt_of(ids: Sequence[int], *, state: str, images: Mapping[str, np.ndarray] | None = None) -> Prompt:
  """Returns the prompt of a list of ids."""
  return Prompt(tokens=np.asarray(ids, np.int32), state=state, images=images or {})


class Progress(NamedTuple):
  """A batch in the middle of decoding."""

  logits: Array  # [B, V], of the token to come
  cache: Any
  states: Array  # int32 [B]
  positions: Array  # int32 [B], of the token to come
  key: Key


class Engine:
  """A model with the rules and the manner of its answers."""

  def __init__(self, model: Any, automaton: Automaton, *, sampling: Sampling, max_tokens: int):
    """Keeps the parts.

    Args:
      model: has `empty_cache`, `prefill` and `step`, as `models.emova.Emova`.
      automaton: what may come next.
      sampling: how it is chosen.
      max_tokens: most tokens of prompt and answer together.
    """
    self._model, self._automaton, self._sampling, self._max_tokens = model, automaton, sampling, max_tokens

  def generate(
    self,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    key: Key | None = None,
    sampling: Sampling | None = None,
  ) -> list[np.ndarray]:
    """Returns the answer of each prompt, int32, up to the end token and without it.

    Args:
      prompts: any number.
      max_new_tokens: with the end token; an answer that would be longer is closed as its rules say, one whose rules
        need more is cut (its length is then exactly this).
      key: random key, for a temperature above 0.
      sampling: another one than the engine's own.
    """
    if not prompts:
      return []
    blocks = list(self.stream(prompts, max_new_tokens=max_new_tokens, key=key, sampling=sampling))
    rows = np.concatenate(blocks, axis=1)[: len(prompts)]
    return [row[row >= 0] for row in rows]

  def stream(
    self,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    key: Key | None = None,
    sampling: Sampling | None = None,
    block: int = BLOCK,
  ) -> Iterator[np.ndarray]:
    """Returns the answers in blocks int32 [rows, up to `block`], -1 after the end of a row; the first comes soonest.

    There may be more rows than prompts (padding of the batch).
    """
    progress = self.prefill(prompts, max_new_tokens=max_new_tokens, key=key)
    sampling = sampling or self._sampling
    for start in range(0, max_new_tokens, block):
      left = max_new_tokens - start
      progress, tokens, count = _decode(self._model, self._automaton, progress, left, sampling=sampling, block=block)
      yield np.asarray(tokens)[:, : int(count)]
      if not np.asarray(progress.states).any():
        return

  def log_likelihood(self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> np.ndarray:
    """Returns the log probability of each answer after its prompt, float [N]; both are ids, prompts without images.

    Many long ones go in turn, as many together as memory should hold.
    """
    whole = [prompt_of([*prompt, *answer], state=OVER) for prompt, answer in zip(prompts, answers, strict=True)]
    length = bucket(max(len(row.tokens) for row in whole), smallest=SMALLEST_PROMPT)
    most = bucket(max(map(len, answers)), smallest=_SMALLEST_ANSWER)
    vocabulary = len(self._automaton.classes)
    together = _whole_batch(min(_MOST_SCORES // length**2, _MOST_LOGITS // (most * vocabulary)))
    found = []
    for start in range(0, len(whole), together):
      some = slice(start, start + together)
      part = whole[some]
      rows = batch_rows(len(part))
      batch = pad_batch([*part, *[part[0]] * (rows - len(part))], length=length)
      places = np.zeros((rows, most), np.int32)
      said, counted = np.zeros((rows, most), np.int32), np.zeros((rows, most), np.float32)
      for row, (prompt, answer) in enumerate(zip(prompts[some], answers[some], strict=True)):
        places[row, : len(answer)] = len(prompt) - 1 + np.arange(len(answer))
        said[row, : len(answer)], counted[row, : len(answer)] = answer, 1.0
      found.append(np.asarray(_log_likelihood(self._model, batch, places, said, counted))[: len(part)])
    return np.concatenate(found)

  def prefill(self, prompts: Sequence[Prompt], *, max_new_tokens: int, key: Key | None = None) -> Progress:
    """Returns the batch with every prompt read."""
    longest = max(len(prompt.tokens) for prompt in prompts)
    if longest + max_new_tokens > self._max_tokens:
      raise UserError(
        f"a prompt of {longest} tokens and an answer of up to {max_new_tokens}",
        where="question",
        rule=f"together at most {self._max_tokens} tokens",
        remedy="ask something shorter: a shorter recording (about 20 tokens a second), a smaller image, fewer words",
      )
    rows = batch_rows(len(prompts))
    batch = pad_batch(
      [*prompts, *[prompts[0]] * (rows - len(prompts))], length=bucket(longest, smallest=SMALLEST_PROMPT)
    )
    logits, cache = _prefill(self._model, batch, room=bucket(max_new_tokens, smallest=BLOCK))
    over = [self._automaton.state(OVER)] * (rows - len(prompts))
    states = np.array([self._automaton.state(prompt.state) for prompt in prompts] + over, np.int32)
    lengths = (batch["segment_ids"] > 0).sum(axis=1).astype(np.int32)
    key = jax.random.key(0) if key is None else key
    return Progress(logits, cache, jnp.asarray(states), jnp.asarray(lengths), key)


def batch_rows(count: int) -> int:
  """Returns the rows of a batch of `count`: a power of two, and in large batches, where padding costs, a multiple."""
  return bucket(count, smallest=1) if count <= _LARGE_BATCH else -(-count // _LARGE_BATCH) * _LARGE_BATCH


def _whole_batch(most: int) -> int:
  """Returns the largest number of rows, of at most so many, that `batch_rows` leaves as it is; at least one."""
  return most // _LARGE_BATCH * _LARGE_BATCH if most >= _LARGE_BATCH else 1 << max(most, 1).bit_length() - 1


@functools.partial(jax.jit, static_argnames="room")
def _prefill(model: Any, batch: dict[str, Array], *, room: int) -> tuple[Array, Any]:
  cache = model.empty_cache(batch["tokens"].shape[0], batch["tokens"].shape[1] + room)
  logits, cache = model.prefill(batch, cache)
  return logits[:, 0], cache


@jax.jit
def _log_likelihood(model: Any, batch: dict[str, Array], places: Array, said: Array, counted: Array) -> Array:
  """Returns the summed log probabilities of the ids `said` [B, A] that follow the `places` [B, A] that are counted."""
  hidden = jnp.take_along_axis(model.hidden(batch), places[..., None], axis=1)
  log_probs = jax.nn.log_softmax(model.logits(hidden).astype(jnp.float32))
  return (jnp.take_along_axis(log_probs, said[..., None], axis=-1)[..., 0] * counted).sum(axis=1)


@functools.partial(jax.jit, static_argnames=("sampling", "block"), donate_argnums=2)
def _decode(
  model: Any, automaton: Automaton, progress: Progress, left: Any, *, sampling: Sampling, block: int
) -> tuple[Progress, Array, Array]:
  """Returns the batch up to a block later, the tokens [B, block], -1 where over, and how many columns count.

  `left` are the tokens that answers may still have.
  """
  limit = jnp.minimum(left, block)

  def unfinished(carry):
    _, progress, count = carry
    return (count < limit) & (progress.states != 0).any()

  def body(carry):
    tokens, progress, count = carry
    key, now = jax.random.split(progress.key)
    allowed = automaton.mask(progress.states, left=left - count)
    chosen = choose(progress.logits, allowed, sampling=sampling, key=now)
    states = automaton.advance(progress.states, chosen)
    tokens = jax.lax.dynamic_update_slice(tokens, jnp.where(states != 0, chosen, -1)[:, None], (0, count))
    logits, cache = model.step(chosen[:, None], progress.positions[:, None], progress.cache)
    return tokens, Progress(logits[:, 0], cache, states, progress.positions + 1, key), count + 1

  empty = jnp.full((progress.states.shape[0], block), -1, jnp.int32)
  tokens, progress, count = jax.lax.while_loop(unfinished, body, (empty, progress, jnp.int32(0)))
  return progress, tokens, count


def pad_batch(prompts: Sequence[Prompt], *, length: int) -> dict[str, np.ndarray]:
  """Returns the batch that a model reads; image arrays are left out if no prompt has an image."""
  shape = (len(prompts), length)
  batch: dict[str, Any] = {"tokens": np.zeros((*shape, *prompts[0].tokens.shape[1:]), np.int32)}
  batch |= {name: np.zeros(shape, np.int32) for name in ("positions", "segment_ids")}
  for row, prompt in enumerate(prompts):
    size = len(prompt.tokens)
    batch["tokens"][row, :size], batch["segment_ids"][row, :size] = prompt.tokens, 1
    batch["positions"][row, :size] = np.arange(size)
  shown = [prompt.images for prompt in prompts if prompt.images]
  for name in dict.fromkeys(name for images in shown for name in images):
    own = [images[name] for images in shown if name in images]
    largest = np.max([array.shape for array in own], axis=0)
    batch[name] = np.zeros((len(prompts), *largest), own[0].dtype)
    for row, prompt in enumerate(prompts):
      if name in prompt.images:
        image = prompt.images[name]
        batch[name][row][tuple(map(slice, image.shape))] = image
  return batch
