"""What is exported: the programs that a vocoder is made of, whatever format they are written in.

A vocoder is one program, or two: UNITS says how long every unit sounds and what is known of it, SOUND makes samples of
frames; between them a runtime repeats what belongs to a unit for as many frames as it lasts, where UNITS has not done
so, and takes as many frames as it wants, so that sound can be made in pieces. Here are their inputs, their JAX
functions, what they are compared by, and the metadata that goes with them.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from omni_jax.core.errors import UserError

TOLERANCE = 1e-4  # of the greatest value of an output; float32 sums in another order differ by 1e-6 to 1e-5
UNITS, SOUND = ".units", ".sound"  # what follows the stem of a file's name
METADATA = "omni_jax"  # name of the block in a file

Arrays = Mapping[str, np.ndarray]


class Port(NamedTuple):
  """An input or output: NumPy's name of its type, and its sizes; a text stands for a size that is not fixed."""

  dtype: str
  sizes: tuple[int | str, ...]


def peak_distance(ours: np.ndarray, theirs: np.ndarray) -> float:
  """Returns the largest difference over the largest value."""
  return float(np.abs(ours - theirs).max() / max(float(np.abs(ours).max()), 1e-12))


def power_distance(ours: np.ndarray, theirs: np.ndarray) -> float:
  """Returns the root mean square of the difference over that of the values."""
  return float(np.sqrt(np.mean((ours - theirs) ** 2) / max(float(np.mean(ours**2)), 1e-12)))


class Program(NamedTuple):
  """One program of a vocoder.

  Attributes:
    suffix: UNITS, SOUND, or that of a joined program.
    inputs: by name; whole numbers are int64 in files and int32 in JAX.
    outputs: by name.
    write: writes the program into an ONNX graph, from the names of its inputs to those of its outputs.
    cases: inputs that files are compared by, several lengths among them.
    function: the program in JAX, (model, inputs) -> outputs; None where lengths depend on values.
    reference: inputs -> outputs by JAX, where there is no `function`.
    tolerance: largest distance from JAX.
    distance: what is measured, of JAX's output and the file's.
  """

  suffix: str
  inputs: Mapping[str, Port]
  outputs: Mapping[str, Port]
  write: Callable[[Any], None]
  cases: Sequence[Arrays]
  function: Callable[[Any, dict[str, Any]], dict[str, Any]] | None = None
  reference: Callable[[Arrays], Arrays] | None = None
  tolerance: float = TOLERANCE
  distance: Callable[[np.ndarray, np.ndarray], float] = peak_distance

  def expected(self, model: Any) -> list[Arrays]:
    """Returns what JAX makes of every case."""
    if self.reference is not None:
      return [self.reference(case) for case in self.cases]
    assert self.function is not None, "a program has a function or a reference"
    function = jax.jit(self.function)
    return [jax.tree.map(np.asarray, function(model, in_jax(case))) for case in self.cases]


def in_jax(inputs: Arrays) -> dict[str, np.ndarray]:
  """Returns inputs with whole numbers as JAX has them."""
  return {name: value.astype(np.int32) if value.dtype == np.int64 else value for name, value in inputs.items()}


def distances(program: Program, expected: Sequence[Arrays], run: Callable[[Arrays], Arrays]) -> dict[str, float]:
  """Returns by output the largest distance of `run` from what JAX made; infinite for other shapes or no numbers."""
  worst = dict.fromkeys(program.outputs, 0.0)
  for case, ours in zip(program.cases, expected, strict=True):
    theirs = run(case)
    for name in worst:
      one, other = np.asarray(ours[name]), np.asarray(theirs[name])
      apart = program.distance(one, other) if one.shape == other.shape else float("inf")
      worst[name] = max(worst[name], apart if np.isfinite(apart) else float("inf"))
  return worst


def refuse_unless_equal(found: Mapping[str, float], *, tolerance: float, where: object) -> None:
  """Raises a UserError if an output is further from JAX than the tolerance."""
  wrong = [f"{name} differs by {value:.2e}" for name, value in found.items() if not value <= tolerance]
  if wrong:
    raise UserError(
      f"the exported vocoder is not the model: {', '.join(wrong)} (relative)",
      where=where,
      rule=f"what is exported differs from JAX by at most {tolerance:.0e}",
      remedy="report it with the versions of jax and the runtime; nothing was written, earlier files are untouched",
    )


def style_facts(names: Sequence[str], rows: np.ndarray | None = None, *, port: str | None = None) -> dict[str, Any]:
  """Returns the metadata of styles: their names, and the row of each that the input `port` takes (little-endian)."""
  stored = b"" if rows is None else np.ascontiguousarray(rows, "<f4").tobytes()
  return {"styles": list(names), "style input": port, "style rows": base64.b64encode(stored).decode()}


def mask_of(lengths: Sequence[int]) -> np.ndarray:
  """Returns float32 [B, longest], 1 on as many places of each row."""
  return (np.arange(max(lengths))[None] < np.array(lengths)[:, None]).astype(np.float32)
