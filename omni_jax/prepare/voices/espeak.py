"""espeak-ng as a speaker and as a phonemiser, in a separate process fed through a pipe (`espeak_process`).

The PyPI package `espeakng-loader` carries the library and its data, so nothing has to be installed beside it.
"""

import functools
import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.prepare.audio import resample
from omni_jax.prepare.corpora.words import HAN
from omni_jax.prepare.pitch import track_f0
from omni_jax.prepare.voices.prosody import MEAN_F0_HZ, level, prosody_of, trim

LANGUAGE = "en-us"
MANDARIN = "cmn-latn-pinyin"  # espeak-ng's `cmn` reads pinyin as English
CHARACTERS = "cmn"  # and this one characters
# Only variants without breath, whose noise would start from the time of day.
SPEAKERS = {"f1": "female", "f4": "female", "linda": "female", "m1": "male", "m3": "male", "m7": "male"}
# The range setting that gives one semitone of deviation of F0 at the mean of the gender, measured.
_RANGE_OF_SEMITONE = {"f1": 29.0, "f4": 29.0, "linda": 33.0, "m1": 24.0, "m3": 24.0, "m7": 24.0}
_WORDS_PER_MINUTE = 168.0
_PROBES = {LANGUAGE: "we can play near the river today", MANDARIN: "wo3 jin1 tian1 zai4 hua1 yuan2 li3"}
_HAN, _ENGLISH = re.compile(rf"[{HAN}]"), "(en)"
_FAILED = 0xFFFFFFFF
_SCRIPT = Path(__file__).with_name("espeak_process.py")


class EspeakProcess:
  """A running espeak-ng; restarted in another process after pickling or forking."""

  def __init__(self):
    import espeakng_loader

    command = [sys.executable, str(_SCRIPT), espeakng_loader.get_library_path(), espeakng_loader.get_data_path()]
    self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    self.sample_rate = int(self._answer())

  def phonemes(self, text: str, voice: str = LANGUAGE) -> str:
    """Returns the phoneme mnemonics of `text`: `_` between phonemes, a space between words."""
    return self._request({"voice": voice, "phones": text}).decode()

  def speak(self, text: str, *, voice: str, pitch: float, pitch_range: float, rate: float) -> np.ndarray:
    """Returns float32 [A] at `self.sample_rate`; pitch and range run 0..99, rate is in words per minute."""
    settings = {"pitch": round(pitch), "range": round(pitch_range), "rate": round(rate)}
    pcm = np.frombuffer(self._request({"voice": voice, "speak": text, **settings}), np.int16)
    return pcm.astype(np.float32) / 32768.0

  def close(self) -> None:
    """Ends the process."""
    self._process.communicate()

  def _request(self, request: dict[str, object]) -> bytes:
    assert self._process.stdin is not None, "started with a pipe"
    try:
      self._process.stdin.write(json.dumps(request).encode() + b"\n")
      self._process.stdin.flush()
    except BrokenPipeError as error:
      raise _ended(self._process.poll()) from error
    return self._answer()

  def _answer(self) -> bytes:
    size = struct.unpack("<I", self._read(4))[0]
    if size == _FAILED:
      message = self._read(struct.unpack("<I", self._read(4))[0]).decode()
      raise UserError(
        message, where="espeak-ng", rule="the voice exists", remedy=f"use {LANGUAGE}+{next(iter(SPEAKERS))}"
      )
    return self._read(size)

  def _read(self, size: int) -> bytes:
    assert self._process.stdout is not None, "started with a pipe"
    data = self._process.stdout.read(size)
    if len(data) < size:
      raise _ended(self._process.poll())
    return data


@functools.cache
def speaker_process() -> EspeakProcess:
  """Returns this process's espeak-ng for speaking, started on first use."""
  return EspeakProcess()


@functools.cache
def phonemizer_process() -> EspeakProcess:
  """Returns this process's espeak-ng for phonemes: a second one, since they leave traces in what is said next."""
  return EspeakProcess()


class EspeakVoice:
  """One espeak-ng timbre in one language.

  In Mandarin the range of F0 is that of the tones, so only the neutral emotion is spoken as its label says.
  """

  def __init__(self, speaker: str, *, language: str = LANGUAGE):
    """Takes a name of SPEAKERS and one of LANGUAGE and MANDARIN."""
    engine = "espeak" if language == LANGUAGE else "espeak-cmn"
    self.name, self.gender, self.language = f"{engine}:{speaker}", SPEAKERS[speaker], language
    self._voice, self._range_of_semitone = f"{language}+{speaker}", _RANGE_OF_SEMITONE[speaker]

  def speak(self, text: str, style: Style) -> np.ndarray:
    """Returns float32 [A] at 16 kHz; a Mandarin voice reads pinyin, or Chinese characters."""
    prosody = prosody_of(style, self.gender)
    # The range setting counts in Hz, so it grows with the mean for the same deviation in semitones.
    relative_mean = prosody.mean_f0_hz / MEAN_F0_HZ[self.gender]
    pitch_range = min(99.0, self._range_of_semitone * prosody.f0_deviation_semitones * relative_mean)
    pitch = float(
      np.interp(np.log(prosody.mean_f0_hz), *_pitch_scale(self._voice, pitch_range, _PROBES[self.language]))
    )
    rate = _WORDS_PER_MINUTE / prosody.duration_scale
    process = speaker_process()
    waveform = process.speak(text, voice=self._reading(text), pitch=pitch, pitch_range=pitch_range, rate=rate)
    return level(trim(resample(waveform, sample_rate=process.sample_rate)))

  def _reading(self, text: str) -> str:
    """Returns the voice as espeak-ng names it: Chinese characters have a reader of their own.

    Raises:
      UserError: it would read a character as English, since it lacks the syllable.
    """
    if self.language != MANDARIN or not _HAN.search(text):
      return self._voice
    for character in set(_HAN.findall(text)):
      if _ENGLISH in phonemizer_process().phonemes(character, CHARACTERS):
        raise UserError(
          f"no sound for {character!r} in {text!r:.60}",
          where=self.name,
          rule="espeak-ng has the syllables of all characters",
          remedy="leave the text out",
        )
    return self._voice.replace(self.language, CHARACTERS, 1)


@functools.cache
def _pitch_scale(voice: str, pitch_range: float, probe: str) -> tuple[list[float], list[float]]:
  """Returns log mean F0 and the pitch setting that gives it, rising, measured on the sentence `probe`."""
  process, settings, measured = speaker_process(), [10.0, 20.0, 40.0, 60.0, 80.0, 99.0], []
  for pitch in settings:
    waveform = process.speak(probe, voice=voice, pitch=pitch, pitch_range=pitch_range, rate=_WORDS_PER_MINUTE)
    f0_hz, voiced = track_f0(resample(waveform, sample_rate=process.sample_rate))
    measured.append(float(np.mean(np.log(f0_hz[voiced]))))
  return measured, settings


def _ended(status: int | None) -> UserError:
  return UserError(
    f"the process ended (status {status})",
    where="espeak-ng",
    rule="the library of espeakng-loader starts on this machine",
    remedy="pip install --force-reinstall espeakng-loader",
  )
