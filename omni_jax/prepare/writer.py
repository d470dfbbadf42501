"""Writes a split as array_record shards described by tensorflow-datasets metadata, without TensorFlow.

    folder/                                          the set; its name is the dataset's name
      speech-train.array_record-00000-of-00002       one record for each group, for random access
      speech-train.array_record-00001-of-00002
      features.json  dataset_info.json               `tfds.builder_from_directory(folder)` reads them
      checksums.json                                 SHA-256 of each shard

A split exists when `dataset_info.json` lists it. That file is replaced last and at once, after complete shards were
renamed into place, so an interrupted write leaves the earlier state.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from omni_jax.core.errors import UserError
from omni_jax.prepare.schema import SCHEMA_VERSION, Example, features, to_bytes, validate

FORMAT = "array_record"
CHECKSUMS = "checksums.json"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


@dataclasses.dataclass(frozen=True)
class Shard:
  """One file of records.

  Attributes:
    path: where it lies before it is published.
    records: their number.
    num_bytes: of the records, before compression.
    sha256: of the file, in hexadecimal digits.
  """

  path: Path
  records: int
  num_bytes: int
  sha256: str


def write_split(folder: Path, split: str, examples: Iterable[Example], *, shards: int = 1) -> int:
  """Writes `examples` as `split` of the set in `folder`, in their order, and returns how many they were.

  Every record is validated. Shards hold equal runs, so that reading them one after another gives the order back.

  Raises:
    UserError: a record breaks the schema, an id occurs twice, there are no records, or the disk refuses.
  """
  folder = Path(folder)
  partial = folder / f".{split}.partial"
  try:
    with _written(folder):  # before the examples, which may take hours to make
      shutil.rmtree(partial, ignore_errors=True)
      partial.mkdir(parents=True)
    serialized = _serialize(examples, f"{folder.name}/{split}")
    count = min(shards, len(serialized))
    bounds = [len(serialized) * index // count for index in range(count + 1)]
    with _written(folder):
      made = [
        write_shard(partial / f"{index:05d}", serialized[bounds[index] : bounds[index + 1]]) for index in range(count)
      ]
      publish(folder, split, made)
  finally:
    shutil.rmtree(partial, ignore_errors=True)
  return len(serialized)


def write_shard(path: Path, serialized: Iterable[bytes]) -> Shard:
  """Writes records, which `serialize` made, to one file as they come, and returns what is in it."""
  from array_record.python.array_record_module import ArrayRecordWriter

  writer = ArrayRecordWriter(str(path), "group_size:1")
  records = num_bytes = 0
  for record in serialized:
    writer.write(record)
    records, num_bytes = records + 1, num_bytes + len(record)
  writer.close()
  return Shard(path, records, num_bytes, checksum(path))


def publish(folder: Path, split: str, shards: Sequence[Shard]) -> None:
  """Makes complete shards a split of the set in `folder`; those without records are left out.

  Interrupted, it can be called again: shards that already have their names are taken as they are.
  """
  filled = [shard for shard in shards if shard.records]
  names = shard_names(folder.name, split, len(filled))
  entry = {
    "name": split,
    "shardLengths": [str(shard.records) for shard in filled],  # 64-bit numbers are text in the JSON of a protobuf
    "numBytes": str(sum(shard.num_bytes for shard in filled)),
    "filepathTemplate": _TEMPLATE,
  }
  others = [other for name, other in read_splits(folder).items() if name != split]
  old = {path.name for path in folder.glob(f"{folder.name}-{split}.{FORMAT}-*")} - set(names)
  sums = {name: value for name, value in read_checksums(folder).items() if name not in old}
  sums |= {name: shard.sha256 for name, shard in zip(names, filled, strict=True)}
  staged = _write_metadata(folder, [*others, entry], sums)
  for name, shard in zip(names, filled, strict=True):
    if shard.path.exists():
      os.replace(shard.path, folder / name)
  for name in ("features.json", CHECKSUMS, "dataset_info.json"):  # the last one makes the split exist
    os.replace(staged / name, folder / name)
  staged.rmdir()
  for name in old:
    (folder / name).unlink()


def serialize(example: Example) -> bytes:
  """Returns a record as the bytes of a shard, the same in every process.

  Raises:
    UserError: the record breaks the schema.
  """
  return to_bytes(validate(example))


def checksum(path: Path) -> str:
  """Returns the SHA-256 of a file, in hexadecimal digits."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def read_checksums(folder: Path) -> dict[str, str]:
  """Returns file name -> SHA-256 of the shards of a set; empty for sets written before checksums were.

  Raises:
    UserError: the file is damaged.
  """
  path = Path(folder) / CHECKSUMS
  try:
    return dict(json.loads(path.read_text())) if path.is_file() else {}
  except (ValueError, TypeError) as error:
    raise UserError(
      f"damaged ({error})", where=path, rule="names of shards and their SHA-256", remedy=_REMAKE
    ) from error


def unwritable(folder: Path, error: Exception) -> UserError:
  """Returns the error of a disk that refuses."""
  return UserError(
    f"cannot write: {error}",
    where=folder,
    rule="the folder can be written and the disk has room",
    remedy="free some space or choose another --workdir, then run the command again; finished work is kept",
  )


@contextlib.contextmanager
def _written(folder: Path) -> Iterator[None]:
  """Turns what a disk that refuses raises into a UserError; array_record raises RuntimeErrors."""
  try:
    yield
  except (OSError, RuntimeError) as error:
    raise unwritable(folder, error) from error


def read_splits(folder: Path) -> dict[str, Any]:
  """Returns split name -> its entry in dataset_info.json, empty if nothing was written yet.

  Raises:
    UserError: the metadata is damaged or of another schema.
  """
  path = Path(folder) / "dataset_info.json"
  if not path.is_file():
    return {}
  try:
    info = json.loads(path.read_text())
    splits = {entry["name"]: entry for entry in info.get("splits", [])}
    version = info["version"]
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(
      f"damaged metadata ({error!r})", where=path, rule="dataset_info.json is what the writer wrote", remedy=_REMAKE
    ) from error
  if version != SCHEMA_VERSION:
    raise UserError(
      f"schema version {version!r}", where=path, rule=f"this version reads {SCHEMA_VERSION}", remedy=_REMAKE
    )
  return splits


def shard_names(dataset: str, split: str, shards: int) -> list[str]:
  """Returns the file names of a split, as tensorflow-datasets spells them."""
  return [f"{dataset}-{split}.{FORMAT}-{index:05d}-of-{shards:05d}" for index in range(shards)]


_REMAKE = "delete the folder and run `omni corpus` (or `omni encode`) again"


def _serialize(examples: Iterable[Example], where: str) -> list[bytes]:
  serialized, seen = [], set()
  for example in examples:
    if example.id in seen:
      raise UserError(f"id {example.id!r} occurs twice", where=where, rule="ids are unique", remedy="rename one")
    seen.add(example.id)
    serialized.append(serialize(example))
  if not serialized:
    raise UserError("no records", where=where, rule="a split holds at least one record", remedy="raise its number")
  return serialized


def _write_metadata(folder: Path, splits: list[dict[str, Any]], checksums: dict[str, str]) -> Path:
  """Writes features.json, checksums and dataset_info.json, the JSON form of tensorflow-datasets' `DatasetInfo`.

  They lie in a folder of their own, which is returned, until the shards are in place.
  """
  partial = folder / ".metadata.partial"
  shutil.rmtree(partial, ignore_errors=True)
  partial.mkdir()
  features().save_config(partial)
  info = {
    "name": folder.name,
    "version": SCHEMA_VERSION,
    "description": f"omni_jax corpus, set {folder.name}",
    "fileFormat": FORMAT,
    "splits": splits,
  }
  (partial / CHECKSUMS).write_text(json.dumps(checksums, indent=1, sort_keys=True))
  (partial / "dataset_info.json").write_text(json.dumps(info, indent=2))
  return partial
