import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES, EMOTIONS, GENDERS
from omni_jax.speech.lengths import Lengths, Recording, fit, letters

KINDS = [f"{gender}-{emotion}" for gender in GENDERS for emotion in EMOTIONS]
FACTORS = dict(zip(KINDS, (1.0, 0.95, 1.2, 0.85, 1.1, 1.0, 1.3, 0.8), strict=True))
LAW = Lengths(per_letter=0.06, constant=0.4, factors=FACTORS, deviation=0.1)


def recordings(count=400):
  draw = np.random.default_rng(0)
  rows = []
  for index in range(count):
    text, style = "ab c" * int(draw.integers(2, 12)), ALL_STYLES[index % len(ALL_STYLES)]
    rows.append(Recording(text, style, LAW.expected(text, style) * np.exp(0.1 * draw.normal())))
  return rows


def test_the_law_that_made_the_recordings_is_found():
  found = fit(recordings())
  assert found is not None
  for text, style in (("a big house", ALL_STYLES[0]), ("the quick brown fox jumps", ALL_STYLES[-1])):
    assert found.expected(text, style) == pytest.approx(LAW.expected(text, style), rel=0.05)
  assert found.deviation == pytest.approx(0.1, abs=0.02)


def test_the_expected_length_is_the_likeliest_whatever_the_script():
  assert (letters("Two 2, three!"), letters("你好")) == (8, 2)
  for style in ALL_STYLES:
    seconds = np.linspace(0, 4, 401)
    scores = [LAW.log_likelihood("the garden is green", style, seconds=length) for length in seconds]
    assert abs(seconds[np.argmax(scores)] - LAW.expected("the garden is green", style)) <= 0.01


def test_few_recordings_and_missing_emotions_give_no_law():
  assert fit(recordings(20)) is None
  assert fit([row for row in recordings() if row.style.emotion != "sad"]) is None


def test_numbers_come_back_and_damaged_files_are_told(tmp_path):
  LAW.save(tmp_path / "lengths.json")
  assert Lengths.load(tmp_path / "lengths.json") == LAW
  for damaged in (
    "",
    "[]",
    '{"per_letter": 1}',
    (tmp_path / "lengths.json").read_text().replace('"deviation": 0.1', '"deviation": 0'),
  ):
    (tmp_path / "lengths.json").write_text(damaged)
    with pytest.raises(UserError, match="lengths of texts"):
      Lengths.load(tmp_path / "lengths.json")
