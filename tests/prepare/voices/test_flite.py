import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.prepare.voices.flite import FliteVoice, flite_installed

STYLE = Style("male", "sad", "low")


@pytest.mark.skipif(not flite_installed(), reason="flite is not installed")
def test_sad_speech_is_longer():
  voice = FliteVoice("kal16")
  text = "the door was open"
  assert len(voice.speak(text, STYLE)) > 1.25 * len(voice.speak(text, Style("male", "neutral", "low")))


def test_a_missing_flite_is_told(monkeypatch):
  monkeypatch.setenv("PATH", "")
  with pytest.raises(UserError, match="flite failed"):
    FliteVoice("awb").speak("hello", STYLE)
