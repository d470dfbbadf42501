"""The optimizer of a run: AdamW (Loshchilov and Hutter, arXiv 1711.05101), Muon or Adafactor, rates by parameter path.

A rate of zero freezes: the parameter is not differentiated, has no moments and cannot change.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from omni_jax.core import trees
from omni_jax.core.config import added
from omni_jax.core.errors import UserError
from omni_jax.train.directions import Parameter, adafactor, adam, muon, scale_by_path

SCHEDULES = ("cosine", "constant")
ALGORITHMS = ("adamw", "muon", "adafactor")
MOMENT_DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Group:
  """The parameters whose path matches `pattern` learn at `scale` times the learning rate; 0 freezes them.

  A later group overrides an earlier one, so write the general rule first.
  """

  pattern: str  # regular expression over a whole path or a whole leading part of it: `vision`, `vision\.blocks`
  scale: float
  layers: tuple[int, int] | None = None  # of a stack, only the layers [first, last)

  def __post_init__(self):
    if self.scale < 0:
      raise UserError(
        f"scale {self.scale}", where=f"group {self.pattern!r}", rule="a scale is 0 (frozen) or more", remedy="change it"
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Average:
  """Parameters that have no gradient of their own but follow others: a teacher (arXiv 1703.01780).

  After each step, what lies under `path` becomes `momentum` times itself plus the rest of what lies under `of`;
  the momentum goes from `momentum` to `final` by a cosine over the run.
  """

  path: str  # leading part of the paths that follow: `teacher_encoder`
  of: str  # leading part of those they follow: `encoder`
  momentum: float
  final: float

  def __post_init__(self):
    if not 0 <= min(self.momentum, self.final) <= max(self.momentum, self.final) <= 1:
      raise UserError(
        f"momentum {self.momentum}, final {self.final}",
        where=f"average {self.path!r}",
        rule="both lie within 0..1",
        remedy="change them",
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
  """How parameters follow their gradients; `OptimizerConfig(learning_rate=3e-4, warmup_steps=100)` is plain Adam."""

  learning_rate: float  # at the peak, after warm-up
  warmup_steps: int = 0  # the rate rises linearly from 0
  schedule: str = "cosine"  # cosine: falls to 0 at the last step; constant: stays
  weight_decay: float = 0.0  # decoupled; never on biases and norm scales (one own dimension)
  clip_norm: float = 0.0  # largest global norm of the gradient of all that learns; 0: no clipping
  beta1: float = 0.9
  beta2: float = 0.999
  eps: float = 1e-8
  groups: tuple[Group, ...] = ()
  # muon: orthogonalised momentum for hidden matrices and convolutions, AdamW for the rest; adafactor: least memory
  algorithm: str = "adamw"
  orthogonal_steps: int = 5  # of Muon's Newton-Schulz iteration; fewer are cheaper and less exact
  averages: tuple[Average, ...] = added(())  # teachers
  moment_dtype: str = added("float32")  # of first moments; bfloat16 halves them
  second_dtype: str = added("float32")  # of AdamW's second moments; bfloat16 is rounded at random
  floor: float = added(0.0)  # rate that warm-up begins and the cosine ends at

  def __post_init__(self):
    for field, allowed in (
      ("schedule", SCHEDULES),
      ("algorithm", ALGORITHMS),
      ("moment_dtype", MOMENT_DTYPES),
      ("second_dtype", MOMENT_DTYPES if self.algorithm != "adafactor" else MOMENT_DTYPES[:1]),
    ):
      if getattr(self, field) not in allowed:
        raise UserError(
          f"unknown {field} {getattr(self, field)!r}",
          where=f"optimizer.{field}",
          rule=f"one of {', '.join(allowed)}",
          remedy="choose one of these",
        )
    low = min(self.warmup_steps, self.clip_norm, self.floor, self.orthogonal_steps - 1) < 0
    if low or not self.floor <= self.learning_rate or self.learning_rate <= 0:
      raise UserError(
        f"learning_rate {self.learning_rate}, floor {self.floor}, warmup_steps {self.warmup_steps}, "
        f"clip_norm {self.clip_norm}, orthogonal_steps {self.orthogonal_steps}",
        where="optimizer",
        rule="learning_rate is above 0 and not below floor; floor, warmup_steps and clip_norm are 0 or more, "
        "orthogonal_steps 1 or more",
        remedy="change the one out of range",
      )


class Optimizer(NamedTuple):
  """A ready optimizer over a flat dict of the parameters that learn."""

  transform: optax.GradientTransformation
  schedule: optax.Schedule  # step -> learning rate
  frozen: frozenset[str]  # paths that do not learn


def make_optimizer(config: OptimizerConfig, *, parameters: dict[str, Parameter], steps: int) -> Optimizer:
  """Returns the optimizer of a run of `steps` steps.

  Raises:
    UserError: a group that matches nothing, layers that do not exist, or nothing left that learns.
  """
  scales = _scales(config.groups, parameters)
  frozen = frozenset(path for path, scale in scales.items() if not np.any(scale))
  learning = {path: parameter for path, parameter in parameters.items() if path not in frozen}
  if not learning:
    raise UserError(
      "every parameter is frozen", where="optimizer.groups", rule="at least one parameter learns", remedy="free a group"
    )
  schedule = _schedule(config, steps)
  decayed = {path: len(parameter.axes) >= 2 for path, parameter in learning.items()}
  followed = _followed(config.averages, learning)
  direction = _direction(config, learning)
  if followed:
    labels = {path: "follows" if path in followed else "learns" for path in learning}
    direction = optax.partition({"learns": direction, "follows": optax.set_to_zero()}, labels)
  transform = optax.chain(
    # Frozen layers of a stack give no gradient, so that they do not count in the norm.
    scale_by_path({path: (scales[path] > 0) * 1.0 for path in learning if np.ndim(scales[path])}),
    optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
    direction,
    optax.add_decayed_weights(config.weight_decay, mask=decayed) if config.weight_decay else optax.identity(),
    scale_by_path({path: scales[path] for path in learning if np.any(scales[path] != 1.0)}),
    optax.scale_by_learning_rate(schedule),
  )
  if followed:
    transform = optax.chain(transform, _follow(followed, steps=steps))
  return Optimizer(transform=transform, schedule=schedule, frozen=frozen)


def _followed(averages: tuple[Average, ...], learning: dict[str, Parameter]) -> dict[str, tuple[str, Average]]:
  """Returns for each path that follows the path it follows, and how."""
  found: dict[str, tuple[str, Average]] = {}
  for average in averages:
    own = {path: average.of + path.removeprefix(average.path) for path in learning if trees.matches(average.path, path)}
    if not own or not set(own.values()) <= set(learning):
      raise UserError(
        f"average {average.path!r} of {average.of!r} matches {len(own)} parameters, "
        f"{len(set(own.values()) & set(learning))} of which have a pair that learns",
        where="optimizer.averages",
        rule="each parameter under `path` has one of the same name under `of`, and neither is frozen",
        remedy="correct the paths or the groups",
      )
    found |= {path: (source, average) for path, source in own.items()}
  return found


def _follow(followed: dict[str, tuple[str, Average]], *, steps: int) -> optax.GradientTransformation:
  """Returns the transformation that moves each path towards where the one it follows arrives in this step."""

  def init(params: Any) -> optax.ScaleByScheduleState:
    del params
    return optax.ScaleByScheduleState(count=jnp.zeros((), jnp.int32))

  def update(updates: Any, state: Any, params: Any = None) -> Any:
    progress = 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(state.count / steps, 1.0)))
    moved = dict(updates)
    for path, (source, average) in followed.items():
      momentum = average.final + (average.momentum - average.final) * progress
      moved[path] = ((1 - momentum) * (params[source] + updates[source] - params[path])).astype(params[path].dtype)
    return moved, optax.ScaleByScheduleState(count=state.count + 1)

  return optax.GradientTransformation(init, update)


def _scales(groups: tuple[Group, ...], parameters: dict[str, Parameter]) -> dict[str, Any]:
  """Returns for each path its scale: a number, or an array that broadcasts over the layers of a stack."""
  scales: dict[str, Any] = dict.fromkeys(parameters, 1.0)
  for group in groups:
    found = [path for path in parameters if trees.matches(group.pattern, path)]
    if not found:
      raise UserError(
        f"group {group.pattern!r} matches no parameter",
        where="optimizer.groups",
        rule=f"a pattern matches a path or a leading part of one: {', '.join(sorted(parameters)[:8])}, ...",
        remedy="correct the pattern or remove the group",
      )
    for path in found:
      if group.layers is None:
        scales[path] = group.scale
      else:
        scales[path] = _layer_scales(group, path=path, parameter=parameters[path], before=scales[path])
  return scales


def _layer_scales(group: Group, *, path: str, parameter: Parameter, before: Any) -> np.ndarray:
  first, last = group.layers or (0, 0)
  depth = parameter.shape[0]
  if not parameter.stacked or not 0 <= first < last <= depth:
    raise UserError(
      f"layers {group.layers} of {path}, whose shape is {parameter.shape}",
      where=f"group {group.pattern!r}",
      rule="layers=(first, last) selects among the leading axis of stacked blocks",
      remedy="give layers inside the stack, or no layers",
    )
  scale = np.broadcast_to(np.asarray(before, np.float32), (depth,) + (1,) * len(parameter.axes)).copy()
  scale[first:last] = group.scale
  return scale


def _schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
  warmup = optax.linear_schedule(config.floor, config.learning_rate, max(config.warmup_steps, 1))
  if config.schedule == "constant":
    after = optax.constant_schedule(config.learning_rate)
  else:
    after = optax.cosine_decay_schedule(
      config.learning_rate, max(steps - config.warmup_steps, 1), alpha=config.floor / config.learning_rate
    )
  return optax.join_schedules([warmup, after], [config.warmup_steps]) if config.warmup_steps else after


def _direction(config: OptimizerConfig, parameters: dict[str, Parameter]) -> optax.GradientTransformation:
  """Returns the transformation from gradients to unit-sized steps, before decay and learning rate."""
  dtype = config.moment_dtype
  if config.algorithm == "adafactor":
    return adafactor(parameters, beta1=config.beta1, beta2=config.beta2, dtype=dtype)
  plain = adam(beta1=config.beta1, beta2=config.beta2, eps=config.eps, dtype=dtype, second_dtype=config.second_dtype)
  if config.algorithm == "adamw":
    return plain
  return muon(parameters, steps=config.orthogonal_steps, rest=plain, dtype=dtype)
