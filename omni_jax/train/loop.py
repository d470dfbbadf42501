"""The training loop: a `Run` and a working folder in, a stage folder out; one page, top to bottom.

The same bits after a crash: the state, the step and the position of the data are saved together, the random key of a
step follows from the seed and the step, so k steps, a kill, and k more give what 2k steps give.
"""

import copy
import dataclasses
import math
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from omni_jax.checkpoint.card import card_difference, make_card, read_card, write_card
from omni_jax.checkpoint.initialise import Start, load_starts, start_fingerprints
from omni_jax.checkpoint.store import Store, latest_step
from omni_jax.core import sharding
from omni_jax.core.config import added
from omni_jax.core.errors import UserError
from omni_jax.core.processes import meet, together
from omni_jax.train.adversarial import Adversarial
from omni_jax.train.executable import load_step
from omni_jax.train.learner import Learner, make_learner
from omni_jax.train.metrics import MetricLog, Window, count_batch
from omni_jax.train.nonfinite import telling
from omni_jax.train.optimizer import OptimizerConfig
from omni_jax.train.progress import Progress
from omni_jax.train.state import State
from omni_jax.train.step import PLAIN, StepConfig
from omni_jax.train.stop_signal import StopSignal
from omni_jax.train.tracing import Tracer
from omni_jax.train.utilisation import Utilisation, peak_teraflops
from omni_jax.train.wandb_log import WandbLog

_PREFETCH = 2  # batches made ahead by a thread
_AHEAD = 2  # steps given to the device before the host waits for the first of them

# Fields that say how a run is run; all others decide what comes out, and belong to its identity.
_HOW = ("mesh", "log_every", "save_every", "keep", "data.workers")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """One stage of training, as a value."""

  name: str  # of the stage and its folder
  model: Any  # config with make(*, key) -> nnx.Module; it may have offered() and adopt(), see nn.lora.AdaptedConfig
  # (model, batch, key) -> (mean loss, {name: (sum, count)}), a module-level function or frozen dataclass; or critics
  loss: Callable | Adversarial
  optimizer: OptimizerConfig
  data: Any  # config with open() -> grain.IterDataset of dicts of arrays, endless
  steps: int
  seed: int = 0
  start: tuple[Start, ...] = ()  # parameters taken from other stages
  mesh: str = ""  # see core.sharding.make_mesh
  log_every: int = 10  # steps
  save_every: int = 200  # steps
  keep: int = 2  # newest checkpoints that stay: where the newest is damaged, the one before is taken
  step: StepConfig = added(PLAIN)  # precision, accumulation, what becomes of steps that are not finite

  def __post_init__(self):
    low = [field for field in ("steps", "log_every", "save_every", "keep") if getattr(self, field) < 1]
    if low:
      raise UserError(
        ", ".join(f"{field} {getattr(self, field)}" for field in low),
        where=f"run {self.name!r}",
        rule="steps, log_every, save_every and keep are at least 1",
        remedy="change the value",
      )
    reads, gets = (getattr(part, "image_layout", None) for part in (self.model, self.data))
    if reads is not None and gets is not None and reads != gets:
      raise UserError(
        f"images are cut for {gets}",
        where=f"run {self.name!r}, data",
        rule=f"the model reads {reads}",
        remedy="cut images with the model's image_layout (ImageSize for patches, TileSize for tiles)",
      )


class _Batch(NamedTuple):
  arrays: dict[str, jax.Array]
  counted: int  # tokens or examples
  unit: str
  after: dict[str, Any]  # position of the data once this batch is used


def train(
  run: Run,
  workdir: Path,
  *,
  overwrite: bool = False,
  executable: Path | None = None,
  find_nan: bool = False,
  teraflops: float | None = None,
  wandb: str | None = None,
) -> Path:
  """Trains a stage to its end and returns its folder, `<workdir>/stages/<name>`; goes on where the same run stopped.

  Args:
    run: what to train.
    workdir: the working folder.
    overwrite: delete what another run left in the stage folder.
    executable: its step, compiled elsewhere (`train.executable`); it is compiled here if there is none.
    find_nan: look for the operation and the layer where a loss that is not finite comes from (`nonfinite.py`).
    teraflops: peak of one device in bfloat16, to log what share of it is used; None: as it is known.
    wandb: a project at Weights & Biases that is told what is logged.

  Raises:
    UserError: the folder holds another run, the data ends or does not fit the mesh, the loss is not finite, the disk
      is full. Earlier checkpoints stay.
    SystemExit: SIGTERM came; the step was saved (status 143).
  """
  stage = Path(workdir) / "stages" / run.name
  begun, first = time.monotonic(), jax.process_index() == 0
  card = make_card(run, workdir=Path(workdir), ignored=_HOW, starts=start_fingerprints(run.start))
  if _prepare(stage, card, overwrite=overwrite) == run.steps:
    if first:
      print(f"{run.name}: already trained, {run.steps} steps")
    return stage
  others = [WandbLog(stage, project=wandb, card=card)] if wandb and first else []  # refused before anything is restored
  mesh = sharding.make_mesh(run.mesh)
  learner = make_learner(run, mesh)
  learner = learner._replace(step=_step(run, learner, executable=executable, find_nan=find_nan))
  store = Store(stage, keep=run.keep)
  state, position = _restore_or_create(run, store, learner=learner, stage=stage)
  store.prepare(params=state.parameters, moments=state.moments)
  done = int(state.step)
  log = MetricLog(stage, step=done, writes=first, others=others)
  log.goodput.add("start", time.monotonic() - begun)
  peak = peak_teraflops(mesh.devices.flat[0]) if teraflops is None else teraflops
  use = Utilisation(run, teraflops=peak, devices=mesh.size)
  bar = Progress(run.name, steps=run.steps, step=done, shown=first)
  try:
    with jax.set_mesh(mesh), StopSignal() as stop, bar as progress, Tracer(stage, say=progress.say) as tracer:
      progress.say(_headline(run, learner, mesh=mesh, done=done))
      batches = _batches(run, mesh, position)
      watched = {"use": use, "log": log, "bar": progress, "tracer": tracer}
      _loop(run, state, learner=learner, batches=batches, store=store, stop=stop, **watched)
  finally:
    log.close()
    store.close()
  return stage


def _step(run: Run, learner: Learner, *, executable: Path | None, find_nan: bool) -> Any:
  """Returns the step as it is taken here: compiled elsewhere, or compiled by all processes before any begins."""
  if executable is None:
    return telling(learner.step) if find_nan else together(learner.step)
  if find_nan:
    raise UserError(
      "a step compiled elsewhere cannot tell where NaN comes from",
      where="--executable and --find-nan",
      rule="only one of them: layers are told apart by compiling the step in another way",
      remedy="leave --executable out",
    )
  return load_step(executable, run=run, learner=learner)


def _loop(
  run: Run,
  state: State,
  *,
  learner: Learner,
  batches: Iterator[_Batch],
  store: Store,
  stop: StopSignal,
  use: Utilisation,
  log: MetricLog,
  bar: Progress,
  tracer: Tracer,
) -> None:
  window, done, last, goodput = Window(), int(state.step), False, log.goodput
  with goodput.spent("data"):
    batch = next(batches)
  rate = f"lower optimizer.learning_rate (now {run.optimizer.learning_rate}) or set optimizer.clip_norm"
  remedy = f"{rate}, and train again with --overwrite"
  while not last:
    with goodput.stepping(batch.arrays):
      least = use.least_seconds(batch.arrays)
      state, sums = learner.step(state, batch.arrays)
    done, used = done + 1, batch
    last = stop.ends(done) or done == run.steps
    window.add(done, sums, counted=used.counted, least_seconds=least)
    if not last:
      with goodput.spent("data", counts=lambda: window.is_idle):
        batch = next(batches)  # while the device works
    window.wait(0 if tracer.ends(done) else _AHEAD)
    if tracer.ends(done):
      tracer.finish()
    bar.advance(done)
    if done % run.log_every == 0 or done == 1 or last:
      window.check(remedy=remedy, bad_steps=run.step.bad_steps)
      line = log.write(done, *window.flush(), unit=used.unit)
      tracer.look(done)
      bar.report(done, _news(line, unit=used.unit))
    if done % run.save_every == 0 or last:
      window.check(remedy=remedy, bad_steps=run.step.bad_steps)
      with goodput.spent("checkpoint"):
        store.save(done, params=state.parameters, moments=state.moments, position={"step": done, "data": used.after})
        if learner.listen is not None:
          clips = {name: np.asarray(rows)[0] for name, rows in learner.listen(state, used.arrays).items()}
          log.sounds(done, clips, sample_rate=run.model.sample_rate)
  store.wait()
  if done < run.steps:
    bar.say(f"{run.name}: stopped at step {done}, saved; the same command goes on from there")
    stop.leave()


def _news(line: dict[str, float], *, unit: str) -> str:
  share = f"  MFU {line['mfu']:.1%}" if "mfu" in line else ""
  return f"loss {line.get('loss', math.nan):.4f}  {line[f'{unit}_per_second']:.3g} {unit}/s{share}"


def _prepare(stage: Path, card: dict[str, Any], *, overwrite: bool) -> int | None:
  """Returns the newest step of this run in the folder; refuses or deletes what another run left."""
  if (stage / "run.json").exists():
    old = read_card(stage)
    if old["fingerprint"] != card["fingerprint"]:
      if not overwrite:
        raise UserError(
          "the stage folder holds another run:\n    " + "\n    ".join(card_difference(old, card)),
          where=stage,
          rule="a stage folder belongs to one run",
          remedy="undo the change, use another --workdir, or delete what is there with --overwrite",
        )
      _once(lambda: shutil.rmtree(stage), "deleted")
  elif latest_step(stage) is not None:
    raise UserError(
      "checkpoints without run.json", where=stage, rule="a stage folder holds its card", remedy="move the folder away"
    )
  _once(lambda: write_card(stage, card), "card")
  return latest_step(stage)


def _once(action: Callable[[], None], name: str) -> None:
  """Lets the first process act while the others wait before and after."""
  meet(f"before {name}")
  if jax.process_index() == 0:
    action()
  meet(f"after {name}")


def _restore_or_create(run: Run, store: Store, *, learner: Learner, stage: Path) -> tuple[State, dict[str, Any] | None]:
  """Returns the state to go on from, and the position of the data (None: its beginning)."""
  abstract = learner.abstract
  if store.latest is not None:
    parameters, moments, position = store.restore(params=abstract.parameters, moments=abstract.moments)
    step = jax.device_put(np.int32(position["step"]), abstract.step.sharding)
    return abstract.restored(parameters, moments, step=step), position["data"]
  # A config may hold its parameters in another form than the stages it starts from (`nn.lora`).
  other_form = hasattr(run.model, "adopt")
  offered = run.model.offered(abstract.parameters) if other_form else abstract.parameters
  loaded, report = load_starts(run.start, offered)
  loaded = run.model.adopt(loaded, abstract.parameters) if other_form else loaded
  if run.start and jax.process_index() == 0:
    print("\n".join(report.lines()))
    report.write(stage / "start.json")
  return learner.create(loaded), None


def _batches(run: Run, mesh: jax.sharding.Mesh, position: dict[str, Any] | None) -> Iterator[_Batch]:
  """Yields batches on the devices, each with the position of the data after it."""
  import grain

  # What is trained on does not depend on the number of processes: each makes its own part of a batch where the data can
  # give parts, otherwise the whole batch, and places what its devices hold.
  in_parts = hasattr(run.data, "open_part")
  part, readers = sharding.part_of_rows(mesh, run.data.rows) if in_parts else (0, 1)
  opened = run.data.open_part(part, readers) if in_parts else run.data.open()
  iterator = iter(grain.experimental.ThreadPrefetchIterDataset(opened, prefetch_buffer_size=_PREFETCH))
  if position is not None:
    iterator.set_state(position)
  rows = sharding.batch_sharding(mesh)
  for number, arrays in enumerate(iterator):
    shapes = {name: (*(size * readers for size in array.shape[:1]), *array.shape[1:]) for name, array in arrays.items()}
    if number == 0:
      check_rows(shapes, mesh, parts=run.step.accumulate)
    counted, unit = count_batch(arrays)
    placed = {
      name: jax.make_array_from_process_local_data(rows, array, global_shape=shapes[name])
      for name, array in arrays.items()
    }
    yield _Batch(placed, counted * readers, unit, copy.deepcopy(iterator.get_state()))
  raise UserError(
    "the data ended before the last step",
    where=f"run {run.name!r}, data",
    rule=f"data goes on for all {run.steps} steps",
    remedy="repeat the dataset, or lower steps",
  )


def check_rows(shapes: dict[str, tuple[int, ...]], mesh: jax.sharding.Mesh, *, parts: int) -> None:
  """Raises a UserError unless the rows of a batch divide over the devices of a mesh, each in so many parts."""
  devices = sharding.parts_of("batch", mesh)
  pieces = devices * parts
  wrong = {name: shape for name, shape in shapes.items() if not shape or shape[0] % pieces}
  if wrong:
    over = f"{devices} devices (mesh axes {sharding.RULES['batch']})"
    raise UserError(
      f"arrays of shape {wrong}",
      where="batch",
      rule=f"the first dimension of every array divides over {over}" + (f" and {parts} parts" if parts > 1 else ""),
      remedy="change the batch size or --mesh" + (" or step.accumulate" if parts > 1 else ""),
    )


def _headline(run: Run, learner: Learner, *, mesh: jax.sharding.Mesh, done: int) -> str:
  axes = ", ".join(f"{axis}={number}" for axis, number in mesh.shape.items() if number > 1) or "one device"
  return f"{run.name}: {learner.size}, {axes}" + (f", going on from step {done}" if done else "")
