from typing import Any

import numpy as np
import pytest

from omni_jax.evaluate.unit_probes import ProbeConfig, read_phones, tell_parts

CONFIG = ProbeConfig(width=16, depth=1, steps=80, rows=8, learning_rate=2e-2)


def sentences(count, *, seed):
  """Returns phone ids, no two alike in a row, and units that name each phone twice over: 3 p, then 3 p + 1."""
  generator = np.random.default_rng(seed)
  phones = [[int(x) for x in np.cumsum(generator.integers(1, 4, generator.integers(3, 7))) % 4] for _ in range(count)]
  return phones, [np.array([3 * phone + place for phone in row for place in (0, 1)], np.int32) for row in phones]


def test_phones_that_units_name_are_read_and_others_are_not():
  phones, units = sentences(48, seed=0)
  truth, test = sentences(9, seed=1)
  given: dict[str, Any] = {"codebook_size": 12, "phones": phones, "num_phones": 4}
  read = read_phones(CONFIG, units=units, test=test, **given)
  assert sum(row == right for row, right in zip(read, truth, strict=True)) >= 8
  silent = read_phones(CONFIG, units=[np.zeros_like(row) for row in units], test=[0 * row for row in test], **given)
  assert sum(row == right for row, right in zip(silent, truth, strict=True)) <= 2


@pytest.mark.parametrize("told", [True, False])
def test_a_class_is_told_only_if_units_hold_it(told):
  generator = np.random.default_rng(0)
  labels = np.stack([generator.integers(0, 2, 80), generator.integers(0, 3, 80)], axis=1)
  units = [generator.integers(0, 5, 9) + told * 5 * label for label in labels[:, 1]]
  found = tell_parts(CONFIG, codebook_size=20, units=units[:48], labels=labels[:48], sizes=(2, 3), test=units[48:])
  right = (found == labels[48:]).mean(0)
  assert right[0] < 0.8  # never in the units
  assert right[1] > 0.95 if told else right[1] < 0.65
