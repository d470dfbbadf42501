"""Small sounds and pictures in public formats, made on the spot."""

import io
import pathlib

import numpy as np
import soundfile
from PIL import Image

from omni_jax.core.errors import UserError
from omni_jax.prepare.audio import decode_audio


def noise(seconds=0.2, *, sample_rate=16000, seed=0):
  return 0.1 * np.random.default_rng(seed).normal(size=round(seconds * sample_rate)).clip(-3, 3).astype(np.float32)


def save_sound(path: pathlib.Path, seconds=0.2, *, sample_rate=16000, seed=0, channels=1):
  path.parent.mkdir(parents=True, exist_ok=True)
  samples = noise(seconds, sample_rate=sample_rate, seed=seed)
  soundfile.write(path, np.stack([samples] * channels, axis=1), sample_rate)
  return samples


def sound_bytes(kind="WAV", seconds=0.2, *, sample_rate=16000, seed=0):
  buffer = io.BytesIO()
  soundfile.write(buffer, noise(seconds, sample_rate=sample_rate, seed=seed), sample_rate, format=kind)
  return buffer.getvalue()


def picture_bytes(kind="PNG", size=(6, 4), colour=(200, 10, 30)):
  buffer = io.BytesIO()
  Image.new("RGB", size, colour).save(buffer, kind)
  return buffer.getvalue()


def read_all(corpus):
  """Returns id -> record, or id -> what is wrong with the entry."""
  results = {}
  for entry in corpus.entries():
    try:
      results[entry.id] = entry.reason or corpus.read(entry)
    except UserError as error:
      results[entry.id] = error.what
  return results


def seconds_of(example):
  return len(decode_audio(example.turns[0].audio)) / 16000


def write(path: pathlib.Path, text: str | bytes):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return path
