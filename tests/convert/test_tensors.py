import jax
import numpy as np
import pytest

from omni_jax.convert.tensors import Held, Without, as_tensors, finite


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_finite_looks_at_every_value(dtype):
  values = np.array([0.0, -1.5, 3e4], jax.numpy.dtype(dtype))
  assert finite(values)
  for bad in (np.inf, -np.inf, np.nan):
    assert not finite(np.append(values, np.array([bad], values.dtype)))


def test_shapes_and_dtypes_of_what_is_held():
  given = as_tensors({"a": np.zeros((2, 3), np.float16), "b": np.zeros(1)})
  assert isinstance(given, Held) and as_tensors(given) is given
  assert (given.shape("a"), given.dtype("a")) == ((2, 3), np.float16)


def test_what_is_left_out_is_not_there():
  left = Without(Held({"a": np.zeros(2), "b": np.zeros(1)}), ["b", "c"])
  assert (list(left), len(left), "b" in left, left.shape("a")) == (["a"], 1, False, (2,))
