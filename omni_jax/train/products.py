"""How many floating-point operations a program does, counted from what JAX traced, not from what a compiler reports.

The rule: a product of [m, k] and [k, n] is 2 m k n operations, batched products and convolutions likewise; nothing else
is counted (norms, softmax, sums: a few in a hundred). A loop counts as often as it runs, of a choice the dearest way.
Attention is counted over whole rows, whatever is masked.

Compilers count the body of a loop once, so their figures for a stack of layers run by `lax.scan` are a layer's.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax


class Products(NamedTuple):
  """Operations of a program: all, and of them those of attention and those inside recomputed parts."""

  total: float
  attention: float
  recomputed: float

  def __add__(self, other: Any) -> "Products":
    return Products(*(one + two for one, two in zip(self, other, strict=True)))

  def times(self, number: float) -> "Products":
    """Returns those of as many runs."""
    return Products(*(one * number for one in self))


NOTHING = Products(0.0, 0.0, 0.0)


def count_products(function: Any, *arguments: Any) -> Products:
  """Returns the operations of `function(*arguments)`; arguments may be shapes, nothing is computed."""
  return count_program(jax.make_jaxpr(function)(*arguments).jaxpr)


def count_program(jaxpr: Any) -> Products:
  """Returns the operations of a traced program; `recomputed` are those inside `jax.checkpoint`."""
  total = NOTHING
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    inner = [count_program(program) for program in _programs(equation)]
    if name == "scan":
      total += _sum(inner).times(equation.params["length"])
    elif name == "cond":
      total += max(inner, default=NOTHING)
    elif name in ("checkpoint", "remat2", "remat"):
      inside = _sum(inner)
      total += inside._replace(recomputed=inside.total)
    elif name == "pallas_call":
      total += NOTHING  # a kernel's grid is not read; count the plain form of the program instead
    elif name in ("dot_general", "ragged_dot", "ragged_dot_general", "conv_general_dilated"):
      total += _product(name, equation)
    else:
      total += _sum(inner)
  return total


def _product(name: str, equation: Any) -> Products:
  out = math.prod(equation.outvars[0].aval.shape)
  left, right = (variable.aval.shape for variable in equation.invars[:2])
  if name == "dot_general":
    (contracted, _), (batched, _) = equation.params["dimension_numbers"]
    operations = 2.0 * out * math.prod(left[axis] for axis in contracted)
    return Products(operations, operations if len(batched) >= 2 else 0.0, 0.0)
  if name == "conv_general_dilated":
    out_channel = equation.params["dimension_numbers"].rhs_spec[0]
    return Products(2.0 * out * math.prod(right) / right[out_channel], 0.0, 0.0)
  if name == "ragged_dot":  # [m, k] with [groups, k, n]
    return Products(2.0 * left[0] * right[1] * right[2], 0.0, 0.0)
  # Of the general form, with gradients: rows times both widths, whichever of them is summed over.
  return Products(2.0 * _ragged(left, right, equation.outvars[0].aval.shape), 0.0, 0.0)


def _ragged(left: tuple[int, ...], right: tuple[int, ...], out: tuple[int, ...]) -> float:
  """Returns m k n of a grouped product: [m, k] with [groups, k, n], or, going back, [m, k] with [m, n]."""
  if len(out) == 3:  # [groups, k, n] from [m, k] and [m, n]
    return float(left[0] * out[1] * out[2])
  return float(left[0] * left[1] * out[-1])


def _sum(parts: list[Products]) -> Products:
  total = NOTHING
  for part in parts:
    total += part
  return total


def _programs(equation: Any) -> Iterator[Any]:
  """Yields the programs inside an equation."""
  if equation.primitive.name == "while":  # how often it runs is not known: once
    names = ("body_jaxpr",)
  elif equation.primitive.name == "pallas_call":
    names = ()
  else:
    names = tuple(equation.params)
  for name in names:
    value = equation.params[name]
    for one in value if isinstance(value, (tuple, list)) else (value,):
      program = getattr(one, "jaxpr", one)
      if hasattr(program, "eqns"):
        yield program
