"""Windows: values that depend on their context come out as from the whole, wherever pieces end; little is kept."""

from typing import NamedTuple

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.speech.windows import WindowStream, join, run_whole


class Pair(NamedTuple):
  left: np.ndarray
  right: np.ndarray


def looking_around(before, after, seen):
  """Returns a function that sums the valid frames around each frame, twice, and the frame's own number."""

  def function(frames, valid, first):
    seen.append(frames.shape[1])
    x = np.pad(frames[0] * valid[0], (before, after))
    sums = sum(x[shift : shift + frames.shape[1]] for shift in range(before + after + 1))
    return Pair(np.repeat(sums, 2)[None], np.repeat(first[0] + np.arange(frames.shape[1]), 2)[None])

  return function


@pytest.mark.parametrize("least", [None, 1, 3])
@pytest.mark.parametrize("sizes", [(50,), (1,) * 50, (3, 0, 40, 7), (49, 1)])
def test_pieces_equal_the_whole(sizes, least):
  frames, seen = np.random.default_rng(0).standard_normal(50), []
  stream = WindowStream(looking_around(4, 2, seen), hop=2, before=4, after=2, chunk=8, least=least)
  cuts = np.split(frames, np.cumsum(sizes)[:-1])
  found = join([*(stream.push(piece) for piece in cuts), stream.finish()])
  padded = np.pad(frames, (4, 2))
  expected = [padded[place : place + 7].sum() for place in range(50)]
  np.testing.assert_allclose(found.left, np.repeat(expected, 2), atol=1e-9)
  np.testing.assert_array_equal(found.right, np.repeat(np.arange(50), 2))
  assert set(seen) == {14}


@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_what_depends_on_part_of_a_frame_comes_before_the_frame(chunk):
  """Each frame is four values, and the last three frames' worth of them that are known may change, but for one."""
  frames = np.random.default_rng(0).standard_normal(50)

  def function(frames, valid, first):
    del first
    fine = np.pad(np.repeat(frames[0] * valid[0], 4), (8, 11))
    return sum(fine[shift : shift + 4 * frames.shape[1]] for shift in range(20))[None]

  whole = function(frames[None], np.ones((1, 50)), None)[0]
  stream = WindowStream(function, hop=4, before=2, after=3, chunk=chunk, ahead=11)
  made, found = [], np.zeros(0)
  for number, frame in enumerate(frames):
    piece = stream.push(frame[None])
    found = found if piece is None else np.concatenate([found, piece])
    made.append(len(found))
    assert len(found) <= max(4 * (number + 1) - 11, 0)
  assert made[2] == 1 and made[2 + chunk] == 1 + 4 * chunk  # the first one, then a chunk for every chunk
  np.testing.assert_allclose(np.concatenate([found, stream.finish()]), whole, atol=1e-9)


def test_what_is_final_comes_at_once_where_that_is_asked():
  stream = WindowStream(looking_around(4, 2, []), hop=2, before=4, after=2, chunk=8, least=1)
  assert stream.push(np.ones(2)) is None
  assert len(stream.push(np.ones(1)).left) == 2
  slow = WindowStream(looking_around(4, 2, []), hop=2, before=4, after=2, chunk=8)
  assert slow.push(np.ones(9)) is None and len(slow.push(np.ones(1)).left) == 16


def test_a_frame_has_the_same_bits_however_it_came():
  weights = np.random.default_rng(1).standard_normal((7, 5)).astype(np.float32)

  def function(frames, valid, first):
    del first
    return np.tanh((frames * valid[..., None]) @ weights)

  frames = np.random.default_rng(2).standard_normal((40, 7)).astype(np.float32)
  whole = WindowStream(function, hop=1, before=2, after=1, chunk=16, least=1).pieces(frames)
  stream = WindowStream(function, hop=1, before=2, after=1, chunk=16, least=1)
  pieces = [stream.push(frames[place : place + 3]) for place in range(0, 40, 3)]
  np.testing.assert_array_equal(join([*pieces, stream.finish()]), np.concatenate(list(whole)))


def test_an_hour_is_made_a_window_at_a_time():
  """90,000 units of 40 ms: the windows stay as they are, and so does what is kept."""
  seen, number = [], 90_000
  stream = WindowStream(looking_around(4, 2, seen), hop=2, before=4, after=2, chunk=64)
  for _ in range(0, number, 500):
    stream.push(np.ones(500))
    assert len(stream._frames) <= 64 + 4 + 2
  stream.finish()
  assert set(seen) == {70} and len(seen) == -(-number // 64)


def test_whole_utterances_take_few_shapes():
  frames, seen = np.random.default_rng(0).standard_normal(40), []
  for number in (3, 17, 30, 40):
    found = run_whole(looking_around(4, 4, seen), frames[:number], hop=2, context=4, largest=32)
    padded = np.pad(frames[:number], 4)
    expected = [padded[place : place + 9].sum() for place in range(number)]
    np.testing.assert_allclose(found.left, np.repeat(expected, 2), atol=1e-9)
  assert seen == [4, 32] + 4 * [32]


def test_bad_use_is_told():
  with pytest.raises(UserError, match="chunks of 0 frames"):
    WindowStream(looking_around(0, 0, []), hop=1, before=0, after=0, chunk=0)
  stream = WindowStream(looking_around(0, 0, []), hop=1, before=0, after=0, chunk=4)
  assert stream.finish() is None
  with pytest.raises(UserError, match="after the end"):
    stream.push(np.ones(1))
