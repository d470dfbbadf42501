"""Parquet tables as the Hugging Face hub stores data sets: one file, or a folder of `train-00000-of-00012.parquet`.

Sound and images are `{"bytes": ..., "path": ...}`; which column is what is said by `fields`, since every set names them
differently: --set fields.audio=audio --set fields.text=sentence.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from omni_jax.prepare.corpora.conversations import READING, Reading
from omni_jax.prepare.corpora.entries import LIMITS, Entry, Limits, name_below
from omni_jax.prepare.corpora.fields import Fields, example_of_fields
from omni_jax.prepare.corpora.tables import parquet_files, row, rows
from omni_jax.prepare.schema import Example

SPEECH_FIELDS = Fields(audio="audio", text="text")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HuggingFaceTable:
  """The rows of the tables, in the order of the files.

  Attributes:
    path: a file, or a folder of them.
    fields: which column is what.
    reading: what conversations become.
    limits: what is accepted.
  """

  path: Path
  fields: Fields = SPEECH_FIELDS
  reading: Reading = READING
  limits: Limits = LIMITS

  def entries(self) -> Iterator[Entry]:
    """Yields one entry for each row; only ids are read."""
    names = (self.fields.id,) if self.fields.id else ()
    for path in parquet_files(self.path):
      name = name_below(self.path, path)
      for count, (group, place, values) in enumerate(rows(path, columns=names, needs=self.fields.columns)):
        own = values.get(self.fields.id)
        yield Entry(str(own) if own is not None else f"{path.stem}/{count}", (name, group, place))

  def read(self, entry: Entry) -> Example:
    """Returns the record of a row."""
    name, group, place = entry.at
    values = row(self.path / name, group=group, place=place, columns=self.fields.columns)
    return example_of_fields(
      entry.id, values, fields=self.fields, corpus="table", reading=self.reading, limits=self.limits
    )
