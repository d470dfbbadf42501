import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.speech.quantizers import Quantizer
from omni_jax.speech.unit_codec import UnitCodec
from omni_jax.tokens.units import reduce_units
from tests.speech.parts import CAUSAL, TOKENIZER, tokenizers
from tests.speech.vocoders import make_vocoder

STYLE = Style("female", "neutral", "normal")
LEVELS = TOKENIZER.levels


class TwelveUnits:
  """A vocoder of the test's size under a tokenizer's units: it says them modulo its own."""

  def __init__(self):
    self._vocoder = make_vocoder(CAUSAL)

  def decode(self, units, style):
    return self._vocoder.decode(self._own(units), style)

  def stream(self, style):
    stream, own = self._vocoder.stream(style), self._own

    class Stream:
      def push(self, units):
        return stream.push(own(units))

      def finish(self):
        return stream.finish()

    return Stream()

  def _own(self, units):
    return np.asarray(units) % self._vocoder.codebook_size


def codec(vocoder=None):
  return UnitCodec(tokenizers()["tokenizer"], vocoder, quantizer=Quantizer(levels=LEVELS), manner=STYLE)


def test_codes_are_the_digits_of_units_the_least_significant_first():
  units = np.array([1234, 8, 0, 4095], np.int32)
  codes = codec().codes(units)
  assert codes.tolist() == [[2, 2, 3, 2], [0, 1, 0, 0], [0, 0, 0, 0], [7, 7, 7, 7]]
  assert codec().units(codes).tolist() == units.tolist()


def test_a_recording_is_coded_as_its_reduced_units():
  waveform = np.random.default_rng(0).normal(size=7000).astype(np.float32)
  own = codec()
  codes = own.encode(waveform)
  assert codes.shape[1] == own.num_codebooks == 4 and codes.max() < own.codebook_size == 8
  expected = reduce_units(tokenizers()["tokenizer"].encode(waveform))[0]
  assert own.units(codes).tolist() == expected.tolist()


@pytest.mark.parametrize("sizes", [(1,) * 9, (4, 5), (9,)])
def test_a_stream_says_what_the_whole_says(sizes):
  units = np.array([5, 5, 70, 9, 9, 9, 800, 3, 3], np.int32)  # repeated within pieces and across them
  own = codec(TwelveUnits())
  codes = own.codes(units)
  stream = own.stream(chunk_frames=2)
  ends = np.cumsum(sizes)
  pieces = [stream.push(codes[end - size : end]) for end, size in zip(ends, sizes, strict=True)]
  sound = np.concatenate([*pieces, stream.finish()])
  np.testing.assert_allclose(sound, own.decode(codes), atol=1e-5)
  np.testing.assert_array_equal(own.decode(codes), own.decode(own.codes(np.array([5, 70, 9, 800, 3]))))


@pytest.mark.parametrize(
  "codes", [np.zeros((2, 3), np.int32), np.full((2, 4), 8), np.full((1, 4), -1), np.zeros((2, 4), np.float32)]
)
def test_other_codes_are_refused(codes):
  with pytest.raises(UserError, match="4 whole numbers from 0 to 7"):
    codec().units(codes)


@pytest.mark.parametrize("levels", [(8, 8, 8), (4, 8, 16, 8)])
def test_digits_make_the_units_of_the_tokenizer(levels):
  with pytest.raises(UserError, match="finite scalar quantiser"):
    UnitCodec(tokenizers()["tokenizer"], None, quantizer=Quantizer(levels=levels))
