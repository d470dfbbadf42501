import dataclasses

import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.prepare.voices.espeak import SPEAKERS, EspeakProcess, EspeakVoice


@pytest.mark.parametrize("speaker", sorted(SPEAKERS))
def test_speech_is_the_same_every_time_whatever_was_said_before(speaker):
  style = Style(SPEAKERS[speaker], "neutral", "normal")
  voice = EspeakVoice(speaker)
  first = voice.speak("the river is cold", style)
  voice.speak("what did you see", dataclasses.replace(style, emotion="happy"))
  np.testing.assert_array_equal(first, voice.speak("the river is cold", style))
  assert 0.5 < len(first) / 16000 < 3


def test_hundreds_of_requests_lose_no_speech():
  process = EspeakProcess()
  settings = {"pitch": 40.0, "pitch_range": 40.0, "rate": 400.0}
  lengths = {len(process.speak("go", voice=f"en-us+{('f1', 'm3')[index % 2]}", **settings)) for index in range(360)}
  assert len(lengths) <= 2


def test_another_process_says_the_same():
  settings = {"voice": "en-us+f4", "pitch": 40.0, "pitch_range": 40.0, "rate": 160.0}
  first, other = (EspeakProcess().speak("the river is cold", **settings) for _ in range(2))
  np.testing.assert_array_equal(first, other)


def test_an_unknown_voice_is_told_and_the_process_goes_on():
  process = EspeakProcess()
  with pytest.raises(UserError, match="no espeak-ng voice"):
    process.phonemes("hello", voice="klingon-of-nowhere")
  assert process.phonemes("hello")
  process.close()


def test_a_process_that_ended_is_told():
  process = EspeakProcess()
  process.close()
  with pytest.raises((UserError, ValueError)):
    process.phonemes("hello")
