import io

import numpy as np
import pytest
import soundfile

from omni_jax.batches import sounds
from omni_jax.batches.sounds import Sounds
from omni_jax.core.errors import UserError
from omni_jax.prepare.audio import decode_audio, decode_pcm, encode_flac, from_pcm, to_pcm
from omni_jax.prepare.schema import Turn


def test_samples_are_those_that_come_through_floats():
  every = np.arange(-32768, 32768).astype(np.int16)
  buffer = io.BytesIO()
  soundfile.write(buffer, every, 16000, format="FLAC", subtype="PCM_16")
  np.testing.assert_array_equal(decode_pcm(buffer.getvalue()), to_pcm(decode_audio(buffer.getvalue())))
  for rate, channels, subtype in ((8000, 1, "PCM_16"), (16000, 2, "PCM_16"), (16000, 1, "PCM_24")):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([every[::9]] * channels, axis=1), rate, format="FLAC", subtype=subtype)
    np.testing.assert_array_equal(decode_pcm(buffer.getvalue()), to_pcm(decode_audio(buffer.getvalue())))
  for data in (b"fLaC", b""):
    with pytest.raises(UserError, match="cannot read audio"):
      decode_pcm(data)


def test_what_fits_is_decoded_once_and_the_rest_each_time(monkeypatch):
  monkeypatch.setattr(sounds, "_KEPT_SAMPLES", 250)
  decoded = []
  monkeypatch.setattr(sounds, "decode_pcm", lambda audio: decoded.append(len(audio)) or decode_pcm(audio))
  waves = [0.1 * np.sin(np.arange(size) / 9).astype(np.float32) for size in (100, 200, 120)]
  kept = Sounds([Turn("user", "a", audio=encode_flac(wave)) for wave in waves])
  for _ in range(2):
    for which, wave in enumerate(waves):
      np.testing.assert_array_equal(kept.whole(which), from_pcm(to_pcm(wave)))
      np.testing.assert_array_equal(
        kept.slice(which, start=90, size=40), np.pad(kept.whole(which)[90:130], (0, 40))[:40]
      )
  assert kept.length(1) == 200
  assert len(decoded) == 2 + 2 * 3 + 1  # the second one has no room
