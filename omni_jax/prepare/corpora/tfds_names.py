"""Data sets of tensorflow-datasets by their names, prepared on disk as array_record, read without TensorFlow.

tfds build my_speech --data_dir /data --file_format=array_record        once, where TensorFlow may be
omni prepare --source tfds:/data/my_speech/1.0.0 --set part=train --set fields.audio=audio ...
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.conversations import READING, Reading
from omni_jax.prepare.corpora.entries import LIMITS, Entry, Limits, require_folder
from omni_jax.prepare.corpora.fields import Fields, example_of_fields
from omni_jax.prepare.corpora.hugging_face import SPEECH_FIELDS
from omni_jax.prepare.schema import Example


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfdsName:
  """The examples of one split.

  Attributes:
    path: `data_dir/name`, `data_dir/name/config` or either with the version.
    part: the split, or a part of it, as tensorflow-datasets writes it: `train[:10%]`.
    fields: which feature is what.
    reading: what conversations become.
    limits: what is accepted.
  """

  path: Path
  part: str = "train"
  fields: Fields = SPEECH_FIELDS
  reading: Reading = READING
  limits: Limits = LIMITS

  def entries(self) -> Iterator[Entry]:
    """Yields one entry for each example; its number is its id, since examples are not read to list them."""
    for index in range(len(_opened(self))):
      yield Entry(f"{self.part}/{index}", (index,))

  def read(self, entry: Entry) -> Example:
    """Returns the record of an example."""
    row = _opened(self)[entry.at[0]]
    missing = sorted(set(self.fields.columns) - set(row))
    if missing:
      raise UserError(
        f"no feature {', '.join(missing)}",
        where=self.path,
        rule=f"it has {', '.join(row)}",
        remedy="name them: --set",
      )
    files = (self.fields.audio, self.fields.image)
    values = {name: row[name] if name in files else _plain(row[name]) for name in self.fields.columns}
    return example_of_fields(
      entry.id, values, fields=self.fields, corpus="tfds", reading=self.reading, limits=self.limits
    )


_sources: dict[tuple[Path, str], Any] = {}


def _opened(corpus: TfdsName) -> Any:
  key = (corpus.path, corpus.part)
  if key not in _sources:
    _sources.clear()
    _sources[key] = _open(*key)
  return _sources[key]


def _open(path: Path, part: str) -> Any:
  import tensorflow_datasets as tfds

  folder = require_folder(path, holds="a prepared data set")
  versions = sorted(folder.rglob("dataset_info.json"))
  if not versions:
    raise UserError(
      "no data set", where=path, rule="tensorflow-datasets prepared it there", remedy="give data_dir/name/version"
    )
  try:
    builder: Any = tfds.builder_from_directory(versions[-1].parent)
    return builder.as_data_source(split=part)
  except (ValueError, KeyError, NotImplementedError, AttributeError, OSError) as error:
    raise UserError(
      f"cannot open: {error}",
      where=path,
      rule="a split of a set that was prepared with --file_format=array_record",
      remedy="choose a split it has, or prepare it again in this format",
    ) from error


def _plain(value: Any) -> Any:
  """Returns text for bytes, and turns as a list where they are columns."""
  if isinstance(value, dict):
    columns = {name: [_plain(item) for item in column] for name, column in value.items()}
    return [dict(zip(columns, turn, strict=True)) for turn in zip(*columns.values(), strict=True)]
  return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value  # told when words are checked
