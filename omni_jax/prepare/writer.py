"""Writes a split as array_record shards described by tensorflow-datasets metadata, without TensorFlow.

    folder/                                          the set; its name is the dataset's name
      speech-train.array_record-00000-of-00002       one record for each group, for random access
      speech-train.array_record-00001-of-00002
      features.json  dataset_info.json               `tfds.builder_from_directory(folder)` reads them

A split exists when `dataset_info.json` lists it. That file is replaced last and at once, after complete shards were
renamed into place, so an interrupted write leaves the earlier state.
"""

import itertools
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omni_jax.core.errors import UserError
from omni_jax.prepare.schema import SCHEMA_VERSION, Example, features, to_record, validate

FORMAT = "array_record"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


def write_split(folder: Path, split: str, examples: Iterable[Example], *, shards: int = 1) -> int:
  """Writes `examples` as `split` of the set in `folder`, in their order, and returns how many they were.

  Every record is validated. Shards hold equal runs, so that reading them one after another gives the order back.

  Raises:
    UserError: a record breaks the schema, an id occurs twice, there are no records, or the disk refuses.
  """
  folder = Path(folder)
  partial = folder / f".{split}.partial"
  try:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    layout = features()
    serialized = _serialize(examples, layout, f"{folder.name}/{split}")
    names, lengths, num_bytes = _write_shards(partial, serialized, dataset=folder.name, split=split, shards=shards)
    entry = {
      "name": split,
      "shardLengths": [str(length) for length in lengths],  # 64-bit numbers are text in the JSON form of a protobuf
      "numBytes": str(num_bytes),
      "filepathTemplate": _TEMPLATE,
    }
    others = [other for name, other in read_splits(folder).items() if name != split]
    _write_metadata(partial, [*others, entry], layout, dataset=folder.name)
    _publish(partial, folder, names, split)
  except (OSError, RuntimeError) as error:
    raise UserError(
      f"cannot write: {error}",
      where=folder,
      rule="the folder can be written and the disk has room",
      remedy="free some space or choose another --workdir, then run the command again; finished splits are kept",
    ) from error
  finally:
    shutil.rmtree(partial, ignore_errors=True)
  return len(serialized)


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


def _serialize(examples: Iterable[Example], layout: Any, where: str) -> list[bytes]:
  serialized, seen = [], set()
  for example in examples:
    validate(example)
    if example.id in seen:
      raise UserError(f"id {example.id!r} occurs twice", where=where, rule="ids are unique", remedy="rename one")
    seen.add(example.id)
    serialized.append(layout.serialize_example(layout.encode_example(to_record(example))))
  if not serialized:
    raise UserError("no records", where=where, rule="a split holds at least one record", remedy="raise its number")
  return serialized


def _write_shards(
  folder: Path, serialized: list[bytes], *, dataset: str, split: str, shards: int
) -> tuple[list[str], list[int], int]:
  from array_record.python.array_record_module import ArrayRecordWriter

  shards = min(shards, len(serialized))
  names = shard_names(dataset, split, shards)
  bounds = [len(serialized) * index // shards for index in range(shards + 1)]
  for index, name in enumerate(names):
    writer = ArrayRecordWriter(str(folder / name), "group_size:1")
    for record in serialized[bounds[index] : bounds[index + 1]]:
      writer.write(record)
    writer.close()
  lengths = [end - start for start, end in itertools.pairwise(bounds)]
  return names, lengths, sum(len(record) for record in serialized)


def _write_metadata(folder: Path, splits: list[dict[str, Any]], layout: Any, *, dataset: str) -> None:
  """Writes features.json and dataset_info.json, the JSON form of tensorflow-datasets' `DatasetInfo`."""
  layout.save_config(folder)
  info = {
    "name": dataset,
    "version": SCHEMA_VERSION,
    "description": f"omni_jax corpus, set {dataset}",
    "fileFormat": FORMAT,
    "splits": splits,
  }
  (folder / "dataset_info.json").write_text(json.dumps(info, indent=2))


def _publish(partial: Path, folder: Path, names: list[str], split: str) -> None:
  for name in names:
    os.replace(partial / name, folder / name)
  for name in ("features.json", "dataset_info.json"):  # the last one makes the split exist
    os.replace(partial / name, folder / name)
  for path in folder.glob(f"{folder.name}-{split}.{FORMAT}-*"):
    if path.name not in names:
      path.unlink()
