"""Where a number that is not finite comes from: the program is run again, operation by operation.

A loss of NaN says nothing of its layer. Here a step keeps the state that it is given, so that when loss or gradient is
not finite the same step can be looked into: its traced program is walked in order, into loops and calls whose results
hold NaN, down to the first operation that made one; its lines of code and the rounds of its loops (the layer of a
stack) are told. Twice the memory of the state and a wait for every step: a mode to look with, not to train in.
"""

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core, source_info_util
from jax.stages import Wrapped

from omni_jax.core.errors import UserError
from omni_jax.core.processes import together

_CALLS = ("jaxpr", "call_jaxpr")  # parameters under which operations keep a program that they run once
_LINES = 5  # of code that are told, innermost first
_FRAMES = 1000  # that are looked at for these: all, in practice
_FRAME = re.compile(r"(.+?):(\d+)(?::\d+)? \((.+)\)$")  # as JAX writes it


class Origin(NamedTuple):
  """The first operation that made something not finite."""

  operation: str  # as JAX calls it
  made: str  # nan, inf or -inf
  lines: tuple[str, ...]  # `nn/norm.py:31 in __call__`, innermost first
  rounds: tuple[int, ...]  # of the loops around it, outermost first, from 0

  def __str__(self):
    rounds = f", layer or round {', '.join(map(str, self.rounds))} of its loop" if self.rounds else ""
    return f"{self.made} first made by `{self.operation}`{rounds}, at {' < '.join(self.lines) or 'an unknown line'}"


def find_origin(function: Callable, *arguments: Any) -> Origin | None:
  """Returns the first operation of `function(*arguments)` that makes NaN, or if none does +inf or -inf; else None."""
  program = jax.make_jaxpr(function)(*arguments)
  inputs = jax.tree.leaves(arguments)
  for made, test in (("nan", jnp.isnan), ("inf", jnp.isposinf), ("-inf", jnp.isneginf)):
    found = _search(program, inputs, test=test, rounds=())
    if found is not None:
      return found._replace(made=made)
  return None


def telling(step: Wrapped) -> Callable[[Any, Mapping[str, jax.Array]], Any]:
  """Returns `step(state, batch)` that does not consume its state, and raises where its loss or gradient comes from.

  Raises (of the step returned):
    UserError: loss or a gradient's norm is not finite; it names the operation, its lines and its layer.
  """
  function = inspect.unwrap(step)
  plain = together(jax.jit(function))

  def call(state: Any, batch: Mapping[str, jax.Array]) -> Any:
    new, sums = plain(state, batch)
    for name, (value, _) in sorted(jax.device_get(sums).items(), key=lambda item: item[0] != "loss"):
      if (name == "loss" or "gradient_norm" in name) and not math.isfinite(value):
        given = _given({"state": state, "batch": batch})
        origin = find_origin(function, state, batch)
        raise UserError(
          f"{name} is {value} in step {int(state.step) + 1}: {origin or 'no single operation of it makes it'}",
          where="training with --find-nan",
          rule=f"loss and gradient norm stay finite{f'; not finite are already {given}' if given else ''}",
          remedy="look at these lines and at the batch of this step; the last checkpoint is as it was",
        )
    return new, sums

  return call


def _given(arguments: Any) -> str:
  """Returns the names of leaves that are not finite already."""
  found = [
    jax.tree_util.keystr(path, simple=True, separator=".")
    for path, leaf in jax.tree_util.tree_flatten_with_path(arguments)[0]
    if _holds(leaf, lambda x: ~jnp.isfinite(x))
  ]
  return ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")


def _search(program: Any, inputs: Sequence[Any], *, test: Callable, rounds: tuple[int, ...]) -> Origin | None:
  """Returns the first operation with a result that `test` finds, though what it reads holds none."""
  jaxpr = program.jaxpr
  values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*program.consts, *inputs], strict=True))
  for equation in jaxpr.eqns:
    read = [each.val if isinstance(each, core.Literal) else values[each] for each in equation.invars]
    made = equation.primitive.bind(*read, **equation.primitive.get_bind_params(equation.params))
    made = made if equation.primitive.multiple_results else [made]
    if any(_holds(each, test) for each in made) and not any(_holds(each, test) for each in read):
      inner = _search_inside(equation, read, test=test, rounds=rounds)
      return inner or Origin(equation.primitive.name, "", _lines(equation), rounds)
    values.update(zip(equation.outvars, made, strict=True))
  return None


def _search_inside(equation: Any, read: Sequence[Any], *, test: Callable, rounds: tuple[int, ...]) -> Origin | None:
  """Returns the operation inside a loop, a choice or a call; None where there is none, or it cannot be looked into."""
  parameters = equation.params
  if equation.primitive.name == "scan":
    return _search_loop(parameters, read, test=test, rounds=rounds)
  if equation.primitive.name == "cond":
    return _search(parameters["branches"][int(read[0])], read[1:], test=test, rounds=rounds)
  program = next((parameters[name] for name in _CALLS if name in parameters), None)
  if program is None or equation.primitive.name in ("while", "shard_map", "pallas_call"):
    return None
  closed = program if isinstance(program, core.ClosedJaxpr) else core.ClosedJaxpr(program, ())
  return _search(closed, read, test=test, rounds=rounds)


def _search_loop(parameters: Any, read: Sequence[Any], *, test: Callable, rounds: tuple[int, ...]) -> Origin | None:
  constants, carried = parameters["num_consts"], parameters["num_carry"]
  fixed, state, rows = read[:constants], read[constants : constants + carried], read[constants + carried :]
  body, length = parameters["jaxpr"], parameters["length"]
  run = jax.jit(core.jaxpr_as_fun(body))
  for number in reversed(range(length)) if parameters["reverse"] else range(length):
    given = [*fixed, *state, *(each[number] for each in rows)]
    made = run(*given)
    if any(_holds(each, test) for each in made):
      return _search(body, given, test=test, rounds=(*rounds, number))
    state = made[:carried]
  return None


def _holds(value: Any, test: Callable) -> bool:
  is_float = jnp.issubdtype(jnp.result_type(value), jnp.floating) if hasattr(value, "dtype") else False
  return is_float and bool(test(value).any())


def _lines(equation: Any) -> tuple[str, ...]:
  """Returns the innermost lines of code that made an operation, without those of packages."""
  told = source_info_util.summarize(equation.source_info, num_frames=_FRAMES).splitlines()
  frames = [(Path(found[1]), found[2], found[3]) for line in reversed(told) if (found := _FRAME.match(line))]
  own = [frame for frame in frames if "site-packages" not in frame[0].parts and frame[0].exists()]
  return tuple(f"{'/'.join(path.parts[-2:])}:{line} in {function}" for path, line, function in own[:_LINES])
