import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.tokens.delays import FrameStream, Row, delay, entries, frames, ids, undelay


def rows_with(delays, *, codes=5):
  shared = {"group": "g", "size": codes + 2, "num_codes": codes, "end": codes, "pad": codes + 1}
  return tuple(
    Row(name=f"r{place}", first=place * (codes + 2), delay=late, **shared) for place, late in enumerate(delays)
  )


def drawn(seed):
  """Returns rows with random delays and a random stream for each, some of them empty."""
  draw = np.random.default_rng(seed)
  rows = rows_with(draw.integers(0, 6, draw.integers(1, 6)), codes=int(draw.integers(1, 9)))
  return rows, [draw.integers(0, row.num_codes, draw.integers(0, 12)) for row in rows]


def test_streams_lie_behind_their_delays():
  columns = delay([[1, 2], [3], [4, 0, 1]], rows_with([1, 2, 0]))
  assert columns.tolist() == [[6, 1, 2, 5], [6, 6, 3, 5], [4, 0, 1, 5]]


@pytest.mark.parametrize("seed", range(40))
def test_undelay_is_the_inverse_for_any_shape_and_delay(seed):
  rows, streams = drawn(seed)
  columns = delay(streams, rows)
  assert columns.shape[1] == max(row.delay + len(stream) + 1 for row, stream in zip(rows, streams, strict=True))
  found = undelay(columns, rows)
  assert all(found.ended)
  assert [stream.tolist() for stream in found.streams] == [stream.tolist() for stream in streams]
  np.testing.assert_array_equal(entries(ids(columns, rows), rows), columns)
  for row, entry in zip(rows, columns, strict=True):
    assert (entry == row.end).sum() == 1 and (entry[: row.delay] == row.pad).all()


@pytest.mark.parametrize("seed", range(20))
def test_a_stream_of_columns_gives_the_frames_of_the_whole_as_soon_as_they_are_known(seed):
  rows, _ = drawn(seed)
  draw = np.random.default_rng(seed)
  whole = draw.integers(0, rows[0].num_codes, (draw.integers(1, 12), len(rows)))
  columns, stream, told, start = delay(list(whole.T), rows), FrameStream(rows), [], 0
  while start < columns.shape[1]:
    stop = start + int(draw.integers(1, 5))
    told.append(stream.push(columns[:, start:stop]))
    start = stop
    known = max(min(stop, columns.shape[1]) - max(row.delay for row in rows), 0)
    assert sum(map(len, told)) == min(known, len(whole))
  np.testing.assert_array_equal(np.concatenate(told), whole)


def test_a_stream_stops_at_what_is_no_code():
  rows = rows_with([0, 1])
  found = undelay(np.array([[1, 6, 2, 2], [6, 1, 2, 3]]), rows)
  assert found.ended == [False, False]
  assert [stream.tolist() for stream in found.streams] == [[1], [1, 2, 3]]
  assert frames(found.streams).tolist() == [[1, 1]]
  assert undelay(np.zeros((2, 0), np.int32), rows).ended == [False, False]


def test_a_row_without_a_stream_is_silent():
  assert delay([None, [1, 2]], rows_with([1, 0])).tolist() == [[6, 6, 6], [1, 2, 5]]
  assert delay([None, None], rows_with([1, 0])).shape == (2, 0)


@pytest.mark.parametrize(
  ("streams", "what"),
  [
    ([[1]], "1 streams for 2 rows"),
    ([[1], [5]], "entry 5 in row 'r1'"),
    ([[-1], [1]], "entry -1 in row 'r0'"),
    ([[0.5], [1]], "type float64"),
    ([[[1]], [1]], "shape \\(1, 1\\)"),
  ],
)
def test_what_is_no_stream_is_refused(streams, what):
  with pytest.raises(UserError, match=what):
    delay(streams, rows_with([0, 1]))


def test_rows_of_another_number_and_ids_of_another_row_are_refused():
  rows = rows_with([0, 1])
  with pytest.raises(UserError, match="for 2 rows"):
    undelay(np.zeros((3, 4), np.int32), rows)
  with pytest.raises(UserError, match="id 7 in row 'r0', column 1"):
    entries(np.array([[0, 7], [7, 8]]), rows)
  with pytest.raises(UserError, match="two entries behind the codes"):
    Row(name="x", group="g", first=0, size=6, num_codes=5, delay=0, end=5, pad=5)
