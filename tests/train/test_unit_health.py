import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.evaluate.scores import edit_distance
from omni_jax.speech.unit_reader import greedy_phones
from omni_jax.train.unit_health import code_use, phone_errors


def test_the_use_of_a_codebook_is_that_of_valid_units():
  units = jnp.array([[3, 3, 5, 7], [5, 1, 1, 1]])
  use = jax.jit(lambda: code_use(units, jnp.array([3, 1]), size=8))()
  assert float(use["units_used"][0]) == 2  # 3, 3, 5 and 5
  assert float(use["perplexity"][0]) == pytest.approx(2.0)
  alone = code_use(units, jnp.array([2, 0]), size=8)
  assert float(alone["perplexity"][0]) == pytest.approx(1.0)


def test_phone_errors_are_the_edit_distances_of_greedy_reading():
  generator = np.random.default_rng(0)
  logits = generator.normal(size=(24, 15, 4)).astype(np.float32)
  num_units = generator.integers(0, 16, 24)
  phones, num_phones = generator.integers(0, 3, (24, 6)), generator.integers(0, 7, 24)
  errors, count = jax.jit(phone_errors)(logits, num_units, phones=phones, num_phones=num_phones)
  expected = [
    edit_distance([str(p) for p in phones[row][:length]], [str(p) for p in greedy_phones(logits[row][:frames])])
    for row, (frames, length) in enumerate(zip(num_units, num_phones, strict=True))
    if length
  ]
  assert float(errors) == sum(expected) > 0 and float(count) == num_phones.sum()
