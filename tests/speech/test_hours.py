"""An hour of speech takes the memory of a window: measured, not only counted as in `test_windows`."""

import numpy as np
import pytest

from tests.speech.parts import STYLE, tokenizers, units_of, vocoders

MOST_BYTES = 200e6  # by which memory may grow over an hour; the hour itself is 230 MB of samples, its states gigabytes


def resident_bytes() -> int:
  with open("/proc/self/statm") as file:
    return int(file.read().split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.parametrize("name", ["istft", "causal", "unit-hifigan", "snac"])
def test_an_hour_is_spoken_piece_by_piece(name):
  vocoder = vocoders()[name]
  stream, units = vocoder.stream(STYLE), units_of(vocoder, 512)
  samples, before = len(stream.push(units)), resident_bytes()
  while samples < 3600 * vocoder.sample_rate:
    samples += len(stream.push(units))
    assert resident_bytes() - before < MOST_BYTES
  stream.finish()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tokenizer", "speech-to-unit", "kmeans", "snac"])
def test_an_hour_is_read_window_by_window(name):
  tokenizer = tokenizers()[name]
  minute = (0.1 * np.random.default_rng(0).standard_normal(60 * tokenizer.sample_rate)).astype(np.float32)
  tokenizer.encode(np.tile(minute, 3))
  hour, before = np.tile(minute, 60), resident_bytes()
  assert len(tokenizer.encode(hour)) == -(-len(hour) // tokenizer.hop)
  assert resident_bytes() - before < 2 * hour.nbytes + MOST_BYTES
