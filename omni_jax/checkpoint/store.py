"""Checkpoints on disk (orbax v1): parameters, moments and data position as separate items of one atomic step.

    stages/<stage>/run.json                   the card (`checkpoint.card`)
    stages/<stage>/checkpoints/<step>/        params, moments, position
    .../checkpoints/<step>.orbax-checkpoint-tmp   a save that was cut off: never read, removed at the next start
    stages/<stage>/damaged/<step>/            one that could not be read when training went on, kept to be looked at

Trees are written as plain nested dicts, so that files outlive the framework, and are always read into shapes that carry
shardings, so that any mesh reads what any other wrote.
"""

import concurrent.futures
import contextlib
import errno
import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from omni_jax.checkpoint.card import model_config
from omni_jax.checkpoint.checksums import find_damage, write_checksums
from omni_jax.checkpoint.faults import saving_errors
from omni_jax.checkpoint.host_copy import HostCopy
from omni_jax.checkpoint.position import Position, read_position
from omni_jax.core import sharding, trees
from omni_jax.core.arrays import Array
from omni_jax.core.errors import UserError
from omni_jax.core.processes import meet

_LONGEST = 512  # bytes of what a process tells the others


def _orbax() -> Any:
  """Returns orbax's interface v1; imported late, because it takes seconds."""
  from orbax.checkpoint import v1

  return v1


def _context() -> Any:
  """Returns how orbax writes."""
  options = _orbax().options
  # Weights are noise to a compressor: it saves a twelfth of the disk and takes most of a save's processor time.
  saving = options.ArrayOptions.Saving(use_compression=False)
  return _orbax().Context(array_options=options.ArrayOptions(saving=saving))


class Restored(NamedTuple):
  """What a checkpoint held."""

  params: dict[str, Array]
  moments: Any
  position: dict[str, Any]


class Store:
  """Writes and reads the checkpoints of one stage; a save runs in the background while training goes on."""

  def __init__(self, stage_folder: Path, *, keep: int):
    """Opens the folder, and removes what interrupted saves left.

    Args:
      stage_folder: of the stage; made if missing.
      keep: number of newest checkpoints that stay.
    """
    self._folder = checkpoints_folder(stage_folder)
    self._folder.mkdir(parents=True, exist_ok=True)
    logging.getLogger("absl").setLevel(logging.ERROR)  # orbax logs every file at INFO and WARNING
    orbax = _orbax()
    newest = orbax.training.preservation_policies.LatestN(keep)
    self._checkpointer = orbax.training.Checkpointer(
      str(self._folder),
      context=_context(),
      preservation_policy=newest,
      cleanup_tmp_directories=True,
    )
    self._copy = HostCopy()
    self._pending: concurrent.futures.Future[None] | None = None
    self._finisher = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")

  @property
  def latest(self) -> int | None:
    """The newest complete step."""
    newest = self._checkpointer.latest
    return None if newest is None else newest.step

  def save(self, step: int, *, params: dict[str, Array], moments: Any, position: dict[str, Any]) -> None:
    """Starts to write one step; waits for the step before it.

    Args:
      step: number of finished steps.
      params: parameters by dotted path.
      moments: what only its own run needs to go on (the optimizer's state, critics); None for a model that was not
        trained here.
      position: JSON data that the next start needs, above all the state of the data iterator.

    Raises:
      UserError: the disk is full. Earlier checkpoints stay.
    """
    self.wait()
    with saving_errors(self._folder, step):
      self._check_folder(step, size=sum(leaf.nbytes for leaf in jax.tree.leaves((params, moments))))
      (params, moments), is_apart = self._copy.take((params, moments))
      items = {"params": nest(params), "position": Position(position)}
      items |= {} if moments is None else {"moments": nest(trees.flatten(moments))}
      # Orbax takes what is on an accelerator into the host's memory before it returns, and processes that begin a save
      # speak to each other by collectives, whose order must be that of the steps: both by this thread.
      in_background = is_apart and jax.process_count() == 1
      begun = None if in_background else self._begin(step, items)
      self._pending = self._finisher.submit(self._finish, step, items, begun)

  def prepare(self, *, params: dict[str, Array], moments: Any) -> None:
    """Lets a thread map the host memory that saves of such arrays need: the first would stand still for it."""
    self.wait()
    self._pending = self._finisher.submit(_map, self._copy.places((params, moments)))

  def _begin(self, step: int, items: dict[str, Any]) -> Any:
    response = self._checkpointer.save_checkpointables_async(step, items, force=True)
    # With nothing in the way, orbax skips a save only when its policy says so, and `force` overrules that.
    assert response is not None, f"orbax skipped the save of step {step}"
    return response

  def _finish(self, step: int, items: dict[str, Any], begun: Any) -> None:
    """Waits until a step is in place, and writes the checksums of this process's share of its files."""
    (begun or self._begin(step, items)).result()
    write_checksums(self._folder / str(step), folder="position", part=jax.process_index(), parts=jax.process_count())

  def wait(self) -> None:
    """Returns when the save under way is complete on disk; raises what it met."""
    if self._pending is not None:
      pending, self._pending = self._pending, None
      with saving_errors(self._folder, None):
        pending.result()

  def restore(self, *, params: dict[str, Any], moments: Any) -> Restored:
    """Returns what the newest step holds that can be read.

    A step that is damaged is said to be so and moved aside, and the one before is taken: processes agree on which.

    Args:
      params: dotted path -> shape with sharding.
      moments: tree of shapes with shardings.

    Raises:
      UserError: no step can be read, or the position of the data is of another number of processes; the newest step
        stays where it is.
    """
    steps = sorted((found.step for found in self._checkpointer.checkpoints), reverse=True)
    damaged: list[tuple[int, str]] = []
    for step in steps:
      restored, wrong = self._read(step, params=params, moments=moments)
      if restored is not None:
        self._put_aside(damaged, instead=step)
        return restored
      damaged.append((step, wrong))
    told = "\n    ".join(f"step {step}: {wrong}" for step, wrong in damaged)
    raise UserError(
      f"cannot read {'the checkpoint' if len(damaged) == 1 else 'any checkpoint'}:\n    {told}",
      where=self._folder,
      rule="a run goes on from the newest checkpoint that is as training wrote it",
      remedy="restore the folder from a copy, or train the stage again with --overwrite (keep says how many stay)",
    )

  def _read(self, step: int, *, params: dict[str, Any], moments: Any) -> tuple[Restored | None, str]:
    """Returns what a step holds, or None and what is wrong with it: in all processes the same."""
    folder = self._folder / str(step)
    own = find_damage(folder, folder="position", part=jax.process_index(), parts=jax.process_count())
    position, items, wrong = {}, {}, _first_told(own)
    if wrong is None:
      position, wrong = _agreed(lambda: read_position(folder / "position"))
    if wrong is None:  # in all processes: orbax lets them wait for each other
      nested = {"params": nest(params), "moments": nest(trees.flatten(moments))}
      items, wrong = _agreed(lambda: self._checkpointer.load_checkpointables(step, nested))
    if wrong is not None:
      return None, wrong
    found = trees.unflatten(moments, flatten_nested(items["moments"]))
    return Restored(flatten_nested(items["params"]), found, position), ""

  def _put_aside(self, damaged: list[tuple[int, str]], *, instead: int) -> None:
    """Moves steps away, and says so."""
    if not damaged:
      return
    aside = self._folder.parent / "damaged"
    if jax.process_index() == 0:
      aside.mkdir(exist_ok=True)
      for step, wrong in damaged:
        shutil.rmtree(aside / str(step), ignore_errors=True)
        (self._folder / str(step)).rename(aside / str(step))
        print(f"the checkpoint of step {step} is damaged ({wrong}); it is now {aside / str(step)}", flush=True)
      print(f"going on from step {instead}", flush=True)
    meet("damaged checkpoints are put aside")
    self._checkpointer.reload()

  def close(self) -> None:
    """Waits for the save under way and lets go of the folder."""
    try:
      self.wait()
    finally:
      self._finisher.shutdown()
      self._checkpointer.close()

  def _check_folder(self, step: int, *, size: int) -> None:
    """Raises OSError where a save would fail: threads of orbax then wait for its folder, and keep the process alive."""
    tempfile.TemporaryFile(dir=self._folder).close()
    free = shutil.disk_usage(self._folder).free
    if free < size:
      raise OSError(errno.ENOSPC, f"No space left: step {step} takes up to {size} bytes, {free} are free")


def _map(places: list[np.ndarray]) -> None:
  """Lets the kernel map memory, which it does when it is first written to."""
  for place in places:
    place.fill(0)


def checkpoints_folder(stage_folder: Path) -> Path:
  """Returns the absolute folder of a stage's checkpoints.

  Raises:
    UserError: the stage lies at an address of a store of objects (`gs://bucket/run`), which is no folder.
  """
  if re.match(r"[a-z][a-z0-9+.-]+:/", str(stage_folder)):
    raise UserError(
      f"{str(stage_folder).replace(':/', '://', 1)} is an address",
      where="working folder",
      rule="stages lie in a folder; a bucket becomes one when it is mounted",
      remedy="mount it (gcsfuse BUCKET /mnt/bucket, s3fs or mountpoint-s3) and give the folder, as omni pod does",
    )
  return stage_folder.resolve() / "checkpoints"


def latest_step(stage_folder: Path) -> int | None:
  """Returns the newest complete step of a stage, None if it has none."""
  folder = checkpoints_folder(stage_folder)
  steps = [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []
  return max(steps, default=None)


def require_step(stage_folder: Path) -> int:
  """Returns the newest complete step.

  Raises:
    UserError: the stage has no checkpoint.
  """
  step = latest_step(stage_folder)
  if step is None:
    raise UserError(
      "no checkpoint",
      where=checkpoints_folder(stage_folder),
      rule="a stage that is used has at least one complete checkpoint",
      remedy="train the stage first, or correct the path",
    )
  return step


def _agreed(read: Callable[[], Any]) -> tuple[Any, str | None]:
  """Returns what was read, and what is wrong with it in the first process that found anything."""
  found = own = None
  try:
    found = read()
  except _damage() as error:
    own = _told(error)
  return found, _first_told(own)


def _first_told(own: str | None) -> str | None:
  """Returns what the first process found wrong that found anything; every process has to ask."""
  if jax.process_count() == 1:
    return own
  meet("a checkpoint is read")  # some had more to read than others
  mine = np.frombuffer((own or "").encode()[:_LONGEST].ljust(_LONGEST), np.uint8)
  told = multihost_utils.process_allgather(mine)
  return next((text for row in told if (text := row.tobytes().decode(errors="replace").rstrip())), None)


def stored_shapes(stage_folder: Path, *, step: int) -> dict[str, tuple[int, ...]]:
  """Returns dotted path -> shape of the parameters in a checkpoint, without reading them."""
  folder = checkpoints_folder(stage_folder) / str(step)
  with _read_errors(folder):
    metadata = _orbax().checkpointables_metadata(str(folder)).metadata["params"]
    if metadata is None:
      raise ValueError("the item params has no readable metadata")
  return {path: tuple(leaf.shape) for path, leaf in flatten_nested(metadata).items()}


def load_params(stage_folder: Path, abstract: dict[str, Any], *, step: int) -> dict[str, Array]:
  """Returns the parameters named in `abstract` (dotted path -> shape with sharding and dtype); others are not read.

  Raises:
    UserError: files of the parameters are damaged, or are not those of a checkpoint.
  """
  folder = checkpoints_folder(stage_folder) / str(step)
  damage = find_damage(folder, folder="position", items=("params",))
  if damage is not None:
    raise _unreadable(damage, folder)
  orbax = _orbax()
  options = orbax.options.PyTreeOptions(loading=orbax.options.PyTreeOptions.Loading(partial_load=True))
  with orbax.Context(pytree_options=options), _read_errors(folder):
    return flatten_nested(orbax.load_checkpointables(str(folder), {"params": nest(abstract)})["params"])


def load_model(stage_folder: Path, *, cast: Any = None, mesh: jax.sharding.Mesh | None = None) -> tuple[Any, Any]:
  """Returns (model config, model) of a stage's newest checkpoint, from the folder alone.

  Args:
    stage_folder: `<workdir>/stages/<stage>`.
    cast: dtype of the parameters in memory; as stored by default.
    mesh: where the parameters live; on one device by default.

  Raises:
    UserError: no such stage, no checkpoint, a damaged one, or other parameters than the config makes.
  """
  config, step = model_config(stage_folder), require_step(stage_folder)
  model = jax.eval_shape(lambda: config.make(key=jax.random.key(0)))
  stored = stored_shapes(stage_folder, step=step)
  shapes = trees.flatten(model)
  trees.check_names(given=set(stored), expected=set(shapes), where=checkpoints_folder(stage_folder) / str(step))
  where = sharding.places(model, mesh)
  abstract = {
    path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype if cast is None else jnp.dtype(cast), sharding=where[path])
    for path, leaf in shapes.items()
  }
  check_shapes(stored, {path: leaf.shape for path, leaf in shapes.items()}, where=stage_folder)
  return config, trees.unflatten(model, load_params(stage_folder, abstract, step=step))


def check_shapes(given: Mapping[str, tuple], expected: Mapping[str, tuple], *, where: object) -> None:
  """Raises a UserError that lists every name in both whose shapes differ."""
  wrong = [
    f"{path}: {given[path]} in the checkpoint, {expected[path]} in the model"
    for path in sorted(expected)
    if path in given and tuple(given[path]) != tuple(expected[path])
  ]
  if wrong:
    raise UserError(
      f"{len(wrong)} shapes differ:\n    " + "\n    ".join(wrong[:40]),
      where=where,
      rule="a parameter that is loaded has the shape of the model's (tables: the same vocabulary)",
      remedy="use a checkpoint of the same vocabulary and sizes, or exclude these parameters",
    )


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
  """Returns nested dicts from dotted paths: `{"a.b": x}` -> `{"a": {"b": x}}`."""
  nested: dict[str, Any] = {}
  for path, leaf in flat.items():
    *heads, last = path.split(".")
    place = nested
    for head in heads:
      place = place.setdefault(head, {})
    place[last] = leaf
  return nested


def flatten_nested(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Returns dotted paths from nested dicts; inverse of `nest`."""
  flat: dict[str, Any] = {}
  for name, value in nested.items():
    path = f"{prefix}.{name}" if prefix else str(name)
    flat |= flatten_nested(value, path) if isinstance(value, Mapping) else {path: value}
  return flat


@contextlib.contextmanager
def _read_errors(folder: Path) -> Iterator[None]:
  try:
    yield
  except _damage() as error:
    raise _unreadable(_told(error), folder) from error


def _damage() -> tuple[type[Exception], ...]:
  """Returns what orbax raises for files that are not those of a checkpoint."""
  return ValueError, KeyError, TypeError, OSError, _orbax().errors.InvalidLayoutError


def _told(error: Exception) -> str:
  return f"{type(error).__name__}: {str(error)[:400]}"


def _unreadable(why: str, folder: Path) -> UserError:
  return UserError(
    f"cannot read the checkpoint ({why})",
    where=folder,
    rule="a checkpoint has the items and shapes that training wrote",
    remedy="restore the folder from a copy, or train the stage again with --overwrite",
  )
