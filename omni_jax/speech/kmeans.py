"""K-means at scale: mini-batches, centres that can be resumed, and the nearest centre of a frame.

Mini-batch k-means (Sculley, WWW 2010): a centre is the mean of all frames that were ever nearest to it, so each batch
moves it by its share. It starts by k-means++ (Arthur and Vassilvitskii, SODA 2007) or from random frames of the first
batches. A centre that gets hardly any frames is moved to a frame that is far from all (`rescue_share`).

A batch may be an array split over a mesh: the sums are then reduced over its devices by the compiler.
"""

import dataclasses
import enum
import functools
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.core.arrays import Array, Float, Int, Key, Scalar, typed
from omni_jax.core.config import to_json
from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole

_EXACT = jax.lax.Precision.HIGHEST  # half precision would change which centre is nearest

Frames = Float[Array, "T D"]
Centres = Float[Array, "K D"]


class Seeding(enum.Enum):
  """Where the centres start."""

  PLUS_PLUS = enum.auto()  # each at a frame drawn by its squared distance to the centres before it
  RANDOM = enum.auto()  # at frames drawn evenly


@dataclasses.dataclass(frozen=True, kw_only=True)
class KMeansConfig:
  """How centres are found.

  Attributes:
    num_classes: number of centres.
    steps: mini-batches in all.
    seeding: where the centres start.
    seed_frames: frames that they are drawn from, at least; the first batches together.
    rescue_share: a centre with less than this share of the mean number of frames is moved; 0: none is.
    rescue_every: steps between two looks at this.
    seed: of everything that is drawn.
  """

  num_classes: int
  steps: int
  seed_frames: int
  seeding: Seeding = Seeding.PLUS_PLUS
  rescue_share: float = 0.1
  rescue_every: int = 10
  seed: int = 0

  def __post_init__(self):
    if self.num_classes < 1 or self.steps < 0 or self.rescue_every < 1 or not 0 <= self.rescue_share < 1:
      raise UserError(
        f"num_classes {self.num_classes}, steps {self.steps}, rescue_every {self.rescue_every}, "
        f"rescue_share {self.rescue_share}",
        where="config of k-means",
        rule="one class, no less than zero steps, one step between rescues, and a share from 0 to below 1",
        remedy="change the one out of range",
      )
    if self.seed_frames < self.num_classes:
      raise UserError(
        f"{self.num_classes} classes from {self.seed_frames} frames",
        where="config of k-means, seed_frames",
        rule="centres start at different frames",
        remedy="raise seed_frames to ten times the number of classes or more",
      )


class KMeans(NamedTuple):
  """Centres on their way.

  Attributes:
    centres: [K, D], float32.
    counts: frames that each is the mean of, [K], float32.
    step: batches that were seen.
  """

  centres: Centres
  counts: Float[Array, "K"]
  step: int


@typed
def nearest(frames: Float[Array, "*batch D"], centres: Centres) -> Int[Array, "*batch"]:
  """Returns the class of each frame: its nearest centre by squared distance; of two equally near, the first."""
  return jnp.argmin(_relative_distances(frames, centres), axis=-1).astype(jnp.int32)


def fit(
  batch_of: Callable[[int], np.ndarray], config: KMeansConfig, *, path: Path | None = None, save_every: int = 50
) -> KMeans:
  """Returns the centres after all steps; goes on from `path` where that holds the same run, bit for bit.

  Args:
    batch_of: step -> frames [N, D], the same each time it is asked; as many in every batch as far as possible, since
      another number is compiled anew.
    config: how centres are found.
    path: of an .npz that the state is kept in; None: it is not kept.
    save_every: steps between saves; the last is always saved.

  Raises:
    UserError: too few frames to start from, frames that are not finite or of another width, a file of another run, or
      a disk that refuses.
  """
  state = None if path is None or not path.exists() else read_state(path, config)
  if state is None:
    state = start(_gathered(batch_of, config.seed_frames), config)
  while state.step < config.steps:
    frames = _checked(batch_of(state.step), width=state.centres.shape[1])
    state = update(state, frames, config)
    if path is not None and (state.step % save_every == 0 or state.step == config.steps):
      write_state(path, state, config)
  return state


def start(frames: np.ndarray, config: KMeansConfig) -> KMeans:
  """Returns the centres before the first batch, each at one of `frames` [N, D].

  Raises:
    UserError: fewer frames than classes.
  """
  if len(frames) < config.num_classes:
    raise UserError(
      f"{len(frames)} frames for {config.num_classes} classes",
      where="start of k-means",
      rule="at least as many frames as classes",
      remedy="give more speech, or ask for fewer classes",
    )
  key = jax.random.key(config.seed)
  if config.seeding is Seeding.RANDOM:
    chosen = jax.random.choice(key, len(frames), (config.num_classes,), replace=False)
    centres = jnp.asarray(frames)[chosen]
  else:
    centres = _plus_plus(jnp.asarray(frames), key, num_classes=config.num_classes)
  return KMeans(centres, jnp.zeros(config.num_classes, jnp.float32), 0)


def update(state: KMeans, frames: Frames, config: KMeansConfig) -> KMeans:
  """Returns the centres after one batch; where it is time, neglected ones are moved."""
  centres, counts = _move(state.centres, state.counts, frames)
  step = state.step + 1
  if config.rescue_share and step % config.rescue_every == 0:
    key = jax.random.fold_in(jax.random.key(config.seed), step)
    centres, counts = _rescue(centres, counts, frames, key, share=config.rescue_share)
  return KMeans(centres, counts, step)


@jax.jit
def distortion(frames: Frames, centres: Centres) -> Scalar:
  """Returns the mean squared distance of a frame to its centre."""
  own = jnp.square(frames).sum(-1) + _relative_distances(frames, centres).min(-1)
  return jnp.maximum(own, 0.0).mean()


def write_state(path: Path, state: KMeans, config: KMeansConfig) -> None:
  """Writes the state as .npz, whole or not at all."""
  buffer = io.BytesIO()
  arrays = {"centres": np.asarray(state.centres), "counts": np.asarray(state.counts), "step": np.int64(state.step)}
  np.savez(buffer, allow_pickle=False, config=_identity(config), **arrays)
  write_whole(path, buffer.getvalue())


def read_state(path: Path, config: KMeansConfig) -> KMeans:
  """Returns the state in `path`.

  Raises:
    UserError: not such a file, or of another config; more steps alone are the same run going on.
  """
  with _Opened(path) as arrays:
    wanted = {"centres", "counts", "step", "config"}
    if not isinstance(arrays, np.lib.npyio.NpzFile) or not wanted <= set(arrays.files):
      raise _unreadable(path, "it has no centres, counts, step and config")
    if str(arrays["config"]) != _identity(config):
      raise UserError(
        f"the centres of another run:\n    {arrays['config']}\n    {_identity(config)}",
        where=path,
        rule="k-means goes on with the config that it began with",
        remedy="undo the change, or remove the file",
      )
    return KMeans(jnp.asarray(arrays["centres"]), jnp.asarray(arrays["counts"]), int(arrays["step"]))


def write_centres(path: Path, centres: np.ndarray) -> None:
  """Writes centres [K, D] as .npy or .npz, by the name of the file."""
  buffer = io.BytesIO()
  if path.suffix == ".npz":
    np.savez(buffer, allow_pickle=False, centres=np.asarray(centres, np.float32))
  else:
    np.save(buffer, np.asarray(centres, np.float32), allow_pickle=False)
  write_whole(path, buffer.getvalue())


def read_centres(path: Path) -> np.ndarray:
  """Returns centres, float32 [K, D], from an .npy, or from an .npz that holds `centres` or one array alone.

  Raises:
    UserError: no such file, another format (a pickle above all: it is never loaded), another shape, or not finite.
  """
  with _Opened(path) as arrays:
    if isinstance(arrays, np.lib.npyio.NpzFile):
      name = "centres" if "centres" in arrays.files or len(arrays.files) != 1 else arrays.files[0]
      if name not in arrays.files:
        raise _unreadable(path, f"its arrays are {', '.join(arrays.files) or 'none'}")
      centres = arrays[name]
    else:
      centres = arrays
  if centres.ndim != 2 or centres.dtype.kind != "f" or not np.isfinite(centres).all():
    raise _unreadable(
      path, f"an array of shape {centres.shape} and {centres.dtype}, or with values that are no numbers"
    )
  return centres.astype(np.float32)


class _Opened:
  """What numpy finds in a file, with a clear message where it finds nothing it may read."""

  def __init__(self, path: Path):
    self._path = Path(path)

  def __enter__(self):
    if not self._path.is_file():
      raise UserError("no such file", where=self._path, rule="the file of centres exists", remedy="check the path")
    try:
      return np.load(self._path, allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
      raise _unreadable(self._path, str(error)) from error

  def __exit__(self, *exception):
    return False


def _unreadable(path: Path, what: str) -> UserError:
  return UserError(
    f"no centres can be read ({what})",
    where=path,
    rule="centres are an .npy of shape [classes, width], or an .npz with an array `centres`",
    remedy=(
      "released k-means models are joblib pickles, which can run any code and are not loaded here; where you trust the "
      "file and have scikit-learn, python -c \"import joblib, numpy; numpy.save('centres.npy', "
      "joblib.load('km1000.bin').cluster_centers_)\""
    ),
  )


def _identity(config: KMeansConfig) -> str:
  fields = to_json(config)
  del fields["steps"]
  return json.dumps(fields, sort_keys=True)


def _gathered(batch_of: Callable[[int], np.ndarray], wanted: int) -> np.ndarray:
  """Returns the frames of the first batches, at least `wanted`; a source that runs dry gives what it has."""
  batches, number, width = [], 0, None
  while number < wanted:
    frames = np.asarray(_checked(batch_of(len(batches)), width=width))
    if not len(frames):
      break
    batches.append(frames)
    number, width = number + len(frames), frames.shape[1]
  return np.concatenate(batches)[: max(wanted, 1)] if batches else np.zeros((0, 1), np.float32)


def _checked(frames: np.ndarray, *, width: int | None) -> Array:
  array = jnp.asarray(frames, jnp.float32)
  if array.ndim != 2 or (width is not None and array.shape[1] != width) or not bool(jnp.isfinite(array).all()):
    raise UserError(
      f"frames of shape {array.shape}{'' if bool(jnp.isfinite(array).all()) else ', some of them not finite'}",
      where="batch for k-means",
      rule=f"frames are finite numbers [N, {width or 'D'}]",
      remedy="look for recordings that are damaged, or a model whose training diverged",
    )
  return array


def _relative_distances(frames: Array, centres: Array) -> Array:
  """Returns squared distances [..., K] less the squared length of the frame."""
  wide, fixed = frames.astype(jnp.float32), centres.astype(jnp.float32)
  return jnp.square(fixed).sum(-1) - 2 * jnp.einsum("...d,kd->...k", wide, fixed, precision=_EXACT)


@jax.jit
def _move(centres: Array, counts: Array, frames: Array) -> tuple[Array, Array]:
  member = jax.nn.one_hot(nearest(frames, centres), len(centres), dtype=jnp.float32)
  came = member.sum(0)
  # The change, not the weighted sum of old and new: a centre with millions of frames keeps its digits.
  change = jnp.einsum("tk,td->kd", member, frames, precision=_EXACT) - came[:, None] * centres
  total = counts + came
  return centres + change / jnp.maximum(total, 1.0)[:, None], total


@functools.partial(jax.jit, static_argnames="share")
def _rescue(centres: Array, counts: Array, frames: Array, key: Key, *, share: float) -> tuple[Array, Array]:
  """Returns neglected centres moved to frames drawn by their squared distance, no frame twice if there are enough."""
  least = share * counts.mean()
  neglected = counts < least
  if len(frames) < len(centres):
    frames = jnp.resize(frames, (len(centres), frames.shape[1]))
  apart = jnp.maximum(jnp.square(frames).sum(-1) + _relative_distances(frames, centres).min(-1), 1e-30)
  # The largest of log weight + Gumbel noise are a draw without replacement.
  order = jax.lax.top_k(jnp.log(apart) + jax.random.gumbel(key, apart.shape), len(centres))[1]
  place = jnp.cumsum(neglected) - 1
  moved = jnp.where(neglected[:, None], frames[order[jnp.maximum(place, 0)]], centres)
  return moved, jnp.where(neglected, least, counts)


@functools.partial(jax.jit, static_argnames="num_classes")
def _plus_plus(frames: Array, key: Key, *, num_classes: int) -> Array:
  first, rest = jax.random.split(key)
  chosen = jnp.zeros((num_classes, frames.shape[1]), jnp.float32)
  chosen = chosen.at[0].set(frames[jax.random.randint(first, (), 0, len(frames))])

  def add(place, carry):
    chosen, apart = carry
    apart = jnp.minimum(apart, jnp.square(frames - chosen[place - 1]).sum(-1))
    drawn = jax.random.categorical(jax.random.fold_in(rest, place), jnp.log(jnp.maximum(apart, 1e-30)))
    return chosen.at[place].set(frames[drawn]), apart

  apart = jnp.full(len(frames), jnp.inf, jnp.float32)
  return jax.lax.fori_loop(1, num_classes, add, (chosen, apart))[0]
