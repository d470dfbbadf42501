"""Every tokenizer and vocoder keeps the interface: its times, its streams, and what it does with odd input."""

import ast
import math
import pathlib

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.speech.interface import Context, PhoneReader, SpeechStream, SpeechTokenizer, Vocoder
from omni_jax.speech.snac import SNAC_24KHZ
from tests.speech.parts import STYLE, codec, tokenizers, units_of, vocoders

ROOT = pathlib.Path(__file__).parent.parent.parent / "omni_jax"
TOKENIZERS, VOCODERS = tokenizers(), vocoders()
each_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=list(TOKENIZERS))
each_vocoder = pytest.mark.parametrize("vocoder", VOCODERS.values(), ids=list(VOCODERS))


def sound(samples: int, seed: int = 0) -> np.ndarray:
  return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("part", [*TOKENIZERS.values(), *VOCODERS.values()], ids=lambda part: type(part).__name__)
def test_times_agree(part):
  assert isinstance(part.sample_rate, int) and isinstance(part.hop, int) and isinstance(part.frame_rate, float)
  assert part.frame_rate * part.hop == pytest.approx(part.sample_rate)
  assert part.num_codebooks >= 1 and part.codebook_size >= 2


def test_snac_tells_the_rate_of_each_quantiser():
  model = codec(SNAC_24KHZ.__class__(**{**vars(codec().config), "sample_rate": 24000}))
  assert model.frame_rate == 1000.0 and model.code_rates == (1000.0, 2000.0, 4000.0)
  assert [round(24000 / SNAC_24KHZ.hop * times, 2) for times in (1, 2, 4)] == [11.72, 23.44, 46.88]


@each_tokenizer
def test_a_tokenizer_gives_a_frame_for_each_hop_begun_and_streams_the_same(tokenizer):
  assert isinstance(tokenizer, SpeechTokenizer)
  waveform = sound(7 * tokenizer.hop + 3)
  units = tokenizer.encode(waveform)
  assert units.dtype == np.int32 and len(units) == 8 and units.min() >= 0 and units.max() < tokenizer.codebook_size
  np.testing.assert_array_equal(tokenizer.encode_batch([waveform])[0], units)
  for size in (5, tokenizer.hop, 3 * tokenizer.hop + 1):
    stream = tokenizer.encode_stream()
    assert isinstance(stream, SpeechStream)
    pieces = [stream.push(waveform[start : start + size]) for start in range(0, len(waveform), size)]
    np.testing.assert_array_equal(np.concatenate([*pieces, stream.finish()]), units)
    assert not len(stream.finish())
    with pytest.raises(UserError, match="after the end"):
      stream.push(waveform)


def test_phones_are_read_by_those_that_learned_them():
  readers = {name for name, tokenizer in TOKENIZERS.items() if isinstance(tokenizer, PhoneReader)}
  assert readers == {"tokenizer", "speech-to-unit"}


@each_tokenizer
@pytest.mark.parametrize(
  ("waveform", "what"),
  [
    (np.zeros(0, np.float32), r"shape \(0,\)"),
    (np.zeros((2, 900), np.float32), r"shape \(2, 900\)"),
    (np.full(900, np.nan, np.float32), "900 samples that are not finite"),
    (np.append(np.zeros(900, np.float32), np.inf), "1 samples that are not finite"),
    (np.zeros(900, np.int16), "samples of type int16"),
  ],
  ids=["nothing", "stereo", "nan", "infinite", "whole-numbers"],
)
def test_a_tokenizer_refuses(tokenizer, waveform, what):
  with pytest.raises(UserError, match=what):
    tokenizer.encode(waveform)
  with pytest.raises(UserError, match=what):
    tokenizer.encode_batch([sound(900), waveform])


@each_tokenizer
def test_silence_and_clipping_are_sounds_and_one_sample_is_filled_up(tokenizer):
  clipped = np.clip(40 * sound(900), -1, 1)
  for waveform in (np.zeros(900, np.float32), clipped, 3 * clipped):
    assert len(tokenizer.encode(waveform)) == -(-900 // tokenizer.hop)
  if type(tokenizer).__name__ == "SpeechToUnit":
    with pytest.raises(UserError, match="at least 257 samples"):
      tokenizer.encode(np.ones(1, np.float32))
  else:
    assert len(tokenizer.encode(np.ones(1, np.float32))) == 1


@each_vocoder
@pytest.mark.parametrize("size", [1, 5, 25])
def test_pieces_equal_the_whole(vocoder, size):
  assert isinstance(vocoder, Vocoder)
  units = units_of(vocoder, 60)
  whole = vocoder.decode(units, STYLE)
  stream = vocoder.stream(STYLE)
  pieces = [stream.push(units[start : start + size]) for start in range(0, len(units), size)]
  made = np.concatenate([*pieces, stream.finish()])
  assert made.shape == whole.shape and made.dtype == np.float32 and np.abs(whole).max() > 0.01
  np.testing.assert_allclose(made, whole, rtol=0, atol=1e-5)
  before_the_end = sum(map(len, pieces))
  late = math.isinf(vocoder.lookahead_seconds)
  assert before_the_end == 0 if late else before_the_end > 0.3 * len(whole)
  assert not len(stream.finish()) and stream.finish().dtype == np.float32


@each_vocoder
def test_a_vocoder_tells_how_long_it_speaks(vocoder):
  units = units_of(vocoder, 60)  # as many as above: nothing is compiled again
  (told,) = vocoder.seconds([units], [STYLE])
  assert told == pytest.approx(len(vocoder.decode(units, STYLE)) / vocoder.sample_rate, abs=0.02 + 0.01 * told)
  assert vocoder.seconds([units[:0]], [STYLE]) == [0.0]


@each_vocoder
def test_a_vocoder_refuses(vocoder):
  good = units_of(vocoder, 3)
  outside = np.where(np.arange(good.size).reshape(good.shape) == 1, vocoder.codebook_size, good)
  for units, what in (
    (good[:0], "no units|no codes|0 units"),
    (outside, rf"(unit|code) {vocoder.codebook_size}"),
    (-good - 1, "(unit|code) -"),
    (good + 0.5, "float64"),
    (good[None], "shape"),
  ):
    with pytest.raises(UserError, match=what):
      vocoder.decode(units, STYLE)
  with pytest.raises(UserError, match="robot"):
    vocoder.decode(good, "robot")
  with pytest.raises(UserError, match="robot"):
    vocoder.stream("robot")
  stream = vocoder.stream(STYLE)
  with pytest.raises(UserError, match=rf"(unit|code) {vocoder.codebook_size}"):
    stream.push(outside)
  assert not len(stream.finish())
  with pytest.raises(UserError, match="after the end"):
    stream.push(good)


@each_vocoder
def test_nobody_says_how(vocoder):
  samples = vocoder.decode(units_of(vocoder, 60))
  assert len(samples) and np.isfinite(samples).all()


@pytest.mark.parametrize("name", ["istft", "causal"])
def test_units_beyond_the_look_ahead_are_not_heard(name):
  vocoder, number = VOCODERS[name], 24
  first, second = units_of(vocoder, 40), units_of(vocoder, 40, seed=1)
  second[:number] = first[:number]
  stream = vocoder.stream(STYLE)
  heard = stream.push(first[:number])
  for units in (first, second):
    np.testing.assert_allclose(vocoder.decode(units, STYLE)[: len(heard)], heard, atol=1e-5)
  # With no unit ahead, what is final ends the stated time before the end of what is known, whatever durations are.
  known = first[: number - (vocoder.context.units_after or 0)]
  late = len(vocoder.decode(known, STYLE)) - len(heard)
  assert late <= vocoder.sample_rate * vocoder.context.frames_after / vocoder.frame_rate
  if name == "causal":
    assert late / vocoder.sample_rate <= vocoder.lookahead_seconds


def test_look_ahead_is_added_up():
  assert Context(frames_after=21).lookahead_seconds(unit_seconds=1.0, frame_rate=50.0) == pytest.approx(0.42)
  assert Context(units_after=2, frames_after=5).lookahead_seconds(unit_seconds=0.04, frame_rate=100.0) == (
    pytest.approx(0.13)
  )
  assert math.isinf(Context(units_after=None).lookahead_seconds(unit_seconds=0.0, frame_rate=1.0))


# Where a whole model of speech is built, changed or looked into, not spoken to.
# `speech_stages` builds a codec of a tokenizer and a vocoder.
INSIDERS = {
  "build/centres.py", "cli/export.py", "evaluate/recogniser.py", "evaluate/unit_probes.py", "generate/speech_stages.py",
}  # fmt: skip


@pytest.mark.parametrize("package", ["generate", "evaluate", "build", "cli"])
def test_above_only_the_interface_is_spoken(package):
  allowed = {"interface", "lengths"}
  for path in sorted((ROOT / package).rglob("*.py")):
    if str(path.relative_to(ROOT)) in INSIDERS:
      continue
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("omni_jax.speech"):
        assert node.module.removeprefix("omni_jax.speech.") in allowed, f"{path} imports {node.module}"
