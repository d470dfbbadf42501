"""EMOVA's releases on the Hugging Face hub (arXiv 2409.18042): emova-alignment-7m, emova-sft-4m, emova-sft-speech-231k.

    alignment-7m/allava-caption-part0/train-00000-of-00043.parquet      id, image, conversations
    alignment-7m/librispeech-ashell2-asr-tts/...                        id, conversations (units are in the text)

A subset is a folder, and holds one kind of record, which its first row tells. Recognition and synthesis rows of one
utterance are told apart by `asr` or `tts` in their ids; both become the same kind of record, so `kind="asr"` reads each
utterance once.
"""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.conversations import READING, Reading
from omni_jax.prepare.corpora.entries import LIMITS, Entry, Limits, name_below
from omni_jax.prepare.corpora.fields import Fields, example_of_fields
from omni_jax.prepare.corpora.tables import parquet_files, row, rows
from omni_jax.prepare.schema import Example

_IMAGE = "image"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Emova:
  """The rows of one subset or of several, in the order of the files.

  Attributes:
    root: the folder of a release, or of one subset.
    subsets: names of folders in `root`; none: all that is in it.
    tasks: only subsets of these tasks (`prepare.schema`); none: all.
    kind: `asr` or `tts`, to read only these rows of utterances; empty: all rows.
    reading: what conversations become.
    limits: what is accepted.
  """

  root: Path
  subsets: tuple[str, ...] = ()
  tasks: tuple[str, ...] = ()
  kind: str = ""
  reading: Reading = READING
  limits: Limits = LIMITS

  def entries(self) -> Iterator[Entry]:
    """Yields one entry for each row, its id beside its subset's name; the same id may occur in two subsets."""
    for path in self._files():
      subset, name = path.parent.name, name_below(self.root, path)
      if self.tasks and self._task(path) not in self.tasks:
        continue
      for count, (group, place, values) in enumerate(rows(path, columns=("id",), needs=("conversations",))):
        own = values["id"]
        if own is None or self.kind in str(own).lower():
          yield Entry(f"{subset}/{own or f'{path.stem}/{count}'}", (name, group, place))

  def read(self, entry: Entry) -> Example:
    """Returns the conversation or the utterance of a row."""
    name, group, place = entry.at
    return self._record(entry.id, self.root / name, group, place)

  def _record(self, id: str, path: Path, group: int, place: int) -> Example:
    image = _IMAGE if _has_image(path) else ""
    fields = Fields(id="id", image=image, conversations="conversations")
    values = row(path, group=group, place=place, columns=fields.columns)
    return example_of_fields(id, values, fields=fields, corpus="emova", reading=self.reading, limits=self.limits)

  def _task(self, path: Path) -> str:
    """Returns the task of the first row of a file."""
    try:
      return self._record("first", path, 0, 0).task
    except UserError as error:
      raise UserError(
        f"the first row tells no task: {error.what}", where=path, rule="subsets hold one kind of record each",
        remedy="name the subsets by --set instead of their tasks",
      ) from error  # fmt: skip

  def _files(self) -> list[Path]:
    if not self.subsets:
      return parquet_files(self.root)
    missing = [name for name in self.subsets if not (self.root / name).is_dir()]
    if missing:
      there = sorted(path.name for path in self.root.iterdir() if path.is_dir()) if self.root.is_dir() else []
      raise UserError(
        f"no subset {', '.join(missing)}",
        where=self.root,
        rule=f"the folder holds {', '.join(there) or 'no subsets'}",
        remedy="fetch it, or choose among these",
      )
    return [path for name in self.subsets for path in parquet_files(self.root / name)]


@functools.lru_cache(maxsize=1)
def _has_image(path: Path) -> bool:
  import pyarrow.parquet

  return _IMAGE in pyarrow.parquet.read_schema(path).names
