import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.nn.quantise import NF4, quantise


def matrix(*shape, key=0):
  return np.asarray(jax.random.normal(jax.random.key(key), shape), np.float32)


def nearest(blocks, book):
  """The definition: the nearest number of the book, of each weight over its block's largest magnitude."""
  largest = np.abs(blocks).max(-1, keepdims=True)
  return book[np.abs(blocks[..., None] / largest[..., None] - book).argmin(-1)] * largest


@pytest.mark.parametrize(("kind", "book"), [("nf4", NF4), ("int8", np.arange(-127, 128) / 127)])
def test_each_weight_is_the_nearest_number_of_its_block(kind, book):
  weight = matrix(16, 6)
  small = quantise(jnp.asarray(weight), kind=kind, block=8)
  blocks = weight.T.reshape(6, 2, 8)  # of a row of [outputs, inputs], as bitsandbytes cuts it
  expected = nearest(blocks, book).reshape(6, 16).T
  np.testing.assert_allclose(small.dequantise(), expected, atol=1e-6)
  assert small.shape == (16, 6) and small.scales.shape == (2, 6)
  assert small.values.nbytes == (16 * 6 // 2 if kind == "nf4" else 16 * 6)


def test_the_code_book_is_that_of_qlora():
  from statistics import NormalDist

  normal, offset = NormalDist(), 0.9677083  # bitsandbytes/functional.py, create_normal_map
  above = [normal.inv_cdf(p) for p in np.linspace(offset, 0.5, 9)[:-1]]
  below = [-normal.inv_cdf(p) for p in np.linspace(offset, 0.5, 8)[:-1]]
  book = np.sort([*above, 0.0, *below])
  np.testing.assert_allclose(NF4, book / book.max(), atol=1e-6)


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_stack_is_its_layers(kind):
  weight = jnp.asarray(matrix(3, 8, 4))
  stacked = quantise(weight, kind=kind, block=4)
  assert stacked.shape == (3, 8, 4)
  for layer in range(3):
    alone = quantise(weight[layer], kind=kind, block=4)
    np.testing.assert_array_equal(stacked.dequantise()[layer], alone.dequantise())


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_values_of_the_book_come_back_and_zeros_stay(kind):
  book = NF4 if kind == "nf4" else np.append(np.arange(-112, 128, 16)[:15] / 127, 1.0)
  weight = jnp.asarray(np.outer(book, [0.5, 3.0, 0.0]), jnp.float32)
  np.testing.assert_allclose(quantise(weight, kind=kind, block=16).dequantise(), weight, atol=1e-6)
  assert quantise(weight, kind=kind, block=16).dequantise(jnp.bfloat16).dtype == jnp.bfloat16


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_qwix_gives_the_same_weights(kind):
  qwix = pytest.importorskip("qwix")
  weight = jnp.asarray(matrix(128, 12))
  qtype = "nf4" if kind == "nf4" else jnp.int8
  theirs = qwix.dequantize(qwix.quantize(weight, qtype, channelwise_axes=(1,), tiled_axes={0: 64}))
  ours = quantise(weight, kind=kind, block=64).dequantise()
  # Their int8 divides by 127.5, ours by 127 as bitsandbytes does: half a step apart at most.
  step = np.abs(np.asarray(weight)).max() / 127
  np.testing.assert_allclose(ours, theirs, atol=1e-6 if kind == "nf4" else 1.01 * step)


def test_what_does_not_fit_is_refused():
  for shape, kind, block in (((10, 4), "nf4", 4), ((8, 4), "fp4", 4), ((9, 4), "nf4", 9), ((8, 4), "int8", 0)):
    with pytest.raises(UserError, match="in blocks of"):
      quantise(jnp.zeros(shape), kind=kind, block=block)
