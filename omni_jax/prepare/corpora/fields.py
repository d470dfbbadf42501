"""Rows whose fields have names of their own (Hugging Face tables, webdataset, tensorflow-datasets) -> records."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.prepare.audio import encode_flac, resample
from omni_jax.prepare.corpora.conversations import READING, Reading, example_of
from omni_jax.prepare.corpora.entries import LIMITS, Limits, require_text
from omni_jax.prepare.corpora.pictures import encode_png, read_picture
from omni_jax.prepare.corpora.utterance import utterance
from omni_jax.prepare.schema import Example, Turn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fields:
  """Which field is what; an empty name: there is none. What a row holds decides what it becomes.

    conversations (and image)      a conversation
    audio (and text)               an utterance, or a recording without words
    image and text                 a caption
    text                           a text

  Attributes:
    id: unique in the corpus; without it, the place of the row.
    text: words, a caption or a document.
    audio: Hugging Face's audio (`bytes`, `path`), bytes of a file, or samples.
    image: Hugging Face's image (`bytes`, `path`), bytes of a file, or pixels.
    conversations: a list of turns (`from` and `value`, or `role` and `content`), or its JSON.
    speaker: who speaks.
    sample_rate: Hz, of samples that are not a file.
  """

  id: str = ""
  text: str = ""
  audio: str = ""
  image: str = ""
  conversations: str = ""
  speaker: str = ""
  sample_rate: int = 16000

  @property
  def columns(self) -> tuple[str, ...]:
    """The names of the fields that are read."""
    names = (self.id, self.text, self.audio, self.image, self.conversations, self.speaker)
    return tuple(name for name in names if name)


def example_of_fields(
  id: str, row: Mapping[str, Any], *, fields: Fields, corpus: str, reading: Reading = READING, limits: Limits = LIMITS
) -> Example:
  """Returns the record of a row.

  Args:
    id: of the record.
    row: its fields by name.
    fields: which is what.
    corpus: the first part of the voice's name.
    reading: what conversations become.
    limits: what is accepted.

  Raises:
    UserError: the row holds nothing that a record is made of, or what it holds cannot be used.
  """
  image = _image(row.get(fields.image), limits) if fields.image else b""
  if fields.conversations:
    return example_of(id, row.get(fields.conversations), image=image, reading=reading)
  text = row.get(fields.text) if fields.text else ""
  if fields.audio:
    speaker = f"{corpus}:{row[fields.speaker]}" if fields.speaker and row.get(fields.speaker) else ""
    data, name = _file(row.get(fields.audio), fields.sample_rate, id)
    return utterance(id, data, text=str(text or ""), limits=limits, voice=speaker, name=name)
  words = require_text(text, where=id)
  if fields.image:
    return Example(id, "caption", (Turn("user", ""), Turn("assistant", words)), image)
  return Example(id, "text", (Turn("assistant", words),))


def _image(value: Any, limits: Limits) -> bytes:
  if value is None:
    return b""
  if isinstance(value, np.ndarray):
    return read_picture(encode_png(value), limits=limits)
  data, name = _file(value, 0, "image")
  return read_picture(data, name=name, limits=limits)


def _file(value: Any, sample_rate: int, where: str) -> tuple[bytes, str]:
  """Returns the bytes of a file and its name; samples become FLAC."""
  if isinstance(value, dict) and "array" in value:  # decoded, as the `datasets` package gives it
    value, sample_rate = value["array"], int(value.get("sampling_rate") or sample_rate)
  if isinstance(value, dict):
    if not isinstance(value.get("bytes"), bytes):
      raise _empty(f"a file that is only a path: {value.get('path')!r:.80}", where)
    return value["bytes"], str(value.get("path") or "")
  if isinstance(value, bytes):
    return value, ""
  if isinstance(value, (list, np.ndarray)) and len(value) and sample_rate > 0:
    samples = _samples(value, where)
    scale = 32768.0 if np.issubdtype(samples.dtype, np.integer) else 1.0
    return encode_flac(resample(samples.astype(np.float32) / scale, sample_rate=sample_rate)), ""
  raise _empty(f"no file: {type(value).__name__}", where)


def _samples(value: Any, where: str) -> np.ndarray:
  """Returns the samples [A] of a row."""
  try:
    samples = np.asarray(value)
  except ValueError:  # lists of different lengths
    samples = np.zeros((0, 0))
  if samples.ndim != 1 or samples.dtype.kind not in "iuf" or not np.isfinite(samples).all():
    raise UserError(
      f"samples of shape {samples.shape} and type {samples.dtype}",
      where=where,
      rule="samples are finite numbers of one channel",
      remedy="mix the channels down, or embed the file instead",
    )
  return samples


def _empty(what: str, where: str) -> UserError:
  return UserError(what, where=where, rule="sound and images are in the row as bytes", remedy="embed them in the table")
