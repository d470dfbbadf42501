"""Stages one behind another: what is final passes on at once, what is left comes at the end, nothing piles up."""

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.speech.streams import AtEnd, Each, Framed, Stream
from omni_jax.speech.windows import WindowStream


def mean_of_three():
  """A stage whose values are means over a frame and its two neighbours."""

  def function(frames, valid, first):
    del first
    x = np.pad(frames[0] * valid[0], 1)
    return ((x[:-2] + x[1:-1] + x[2:]) / 3)[None]

  return WindowStream(function, hop=1, before=1, after=1, chunk=4, least=1)


def stream_of(*stages, at_once=128):
  return Stream(stages, check=lambda values: np.asarray(values, float), empty=np.zeros(0), at_once=at_once)


def means(values):
  return np.convolve(np.pad(values, 1), np.ones(3), "valid") / 3


@pytest.mark.parametrize("size", [1, 4, 50])
def test_stages_follow_each_other(size):
  values = np.random.default_rng(0).standard_normal(50)
  stream = stream_of(mean_of_three(), Each(lambda x: np.repeat(x, 3)), mean_of_three())
  pieces = [stream.push(values[start : start + size]) for start in range(0, 50, size)]
  expected = means(np.repeat(means(values), 3))
  np.testing.assert_allclose(np.concatenate([*pieces, stream.finish()]), expected, atol=1e-12)
  assert len(pieces[0]) == (size - 1) * 3 - 1 if size > 1 else not len(pieces[0])
  assert not len(stream.finish())
  with pytest.raises(UserError, match="after the end"):
    stream.push(values)


def test_a_long_push_passes_in_pieces():
  sizes = []
  stream = stream_of(Each(lambda x: (sizes.append(len(x)), x)[1]), at_once=8)
  np.testing.assert_array_equal(stream.push(np.arange(20)), np.arange(20))
  assert sizes == [8, 8, 4]


def test_at_the_end_everything_is_there():
  stream = stream_of(AtEnd(lambda values: values[::-1]), Each(lambda x: x + 1))
  assert not len(stream.push([1, 2])) and not len(stream.push([])) and not len(stream.push([3]))
  assert stream.finish().tolist() == [4, 3, 2]
  assert not len(stream_of(AtEnd(lambda values: 1 / 0)).finish())


def test_samples_become_frames_and_the_last_is_filled_up():
  stream = Stream([Framed(4)], check=np.asarray, empty=np.zeros((0, 4)))
  made = np.concatenate([stream.push(np.arange(3)), stream.push(np.arange(3, 9)), stream.finish()])
  np.testing.assert_array_equal(made, np.append(np.arange(9), np.zeros(3)).reshape(3, 4))
