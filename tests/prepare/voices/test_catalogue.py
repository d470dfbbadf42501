import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.prepare.voices import catalogue
from omni_jax.prepare.voices.catalogue import ESPEAK_ONLY, WITH_FLITE, cast, speak, voice


@pytest.mark.parametrize("roles", [WITH_FLITE, ESPEAK_ONLY])
def test_every_role_is_filled_by_a_voice_of_its_gender(roles):
  for gender, names in roles.seen.items():
    assert roles.answers[gender] in names
    assert {voice(name).gender for name in names} == {gender}
    assert roles.held_out not in names
  assert {style.gender for style in roles.held_out_styles} == {voice(roles.held_out).gender}


def test_without_flite_everything_goes_on_with_espeak(monkeypatch):
  monkeypatch.setattr(catalogue.flite, "flite_installed", lambda: False)
  assert all(name.startswith("espeak:") for names in cast().seen.values() for name in names)


def test_wrong_requests_are_told():
  style = Style("female", "happy", "low")
  with pytest.raises(UserError, match="unknown voice"):
    voice("flite:bob")
  with pytest.raises(UserError, match="for a male voice"):
    speak("hello", style, voice_name="espeak:m3")
  with pytest.raises(UserError, match="empty text"):
    speak("  ", style, voice_name="espeak:f1")
