"""Programs as ONNX files, STEM with the suffix of each (`programs.Program`): written only if all equal JAX.

Every graph is run in onnxruntime first. Each file carries the whole metadata as JSON under METADATA: what a runtime
needs, where it comes from, how far it is from JAX, and `export`, which the files of one vocoder share.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from omni_jax.core.files import write_together
from omni_jax.export.onnx_graph import OPSET, Graph
from omni_jax.export.programs import METADATA, Arrays, Program, distances, refuse_unless_equal

_WRITERS = ("omni_jax", "jax", "onnx", "onnxruntime")


class ExportReport(NamedTuple):
  """What was written, and by output the largest relative distance from JAX."""

  paths: tuple[Path, ...]
  num_bytes: int
  differences: dict[str, float]

  def __str__(self) -> str:
    found = ", ".join(f"{name} {value:.1e}" for name, value in self.differences.items())
    names = ", ".join(map(str, self.paths))
    return f"{names}: {self.num_bytes / 1e6:.1f} MB, differs from JAX by (relative) {found}"


def publish_onnx(
  model: Any,
  programs: Sequence[Program],
  stem: Path,
  *,
  facts: Mapping[str, Any],
  beside: Mapping[str, str] | None = None,
) -> ExportReport:
  """Compares every graph with JAX, then writes all of them with their metadata, or nothing.

  Args:
    model: that the programs are of.
    programs: one file each.
    stem: path of the files without their endings.
    facts: metadata by name, whatever JSON can write.
    beside: other files, ending of the name -> text.

  Raises:
    UserError: a graph differs from JAX, or the disk is full; earlier files, if any, are untouched.
  """
  graphs, differences = [], {}
  for program in programs:
    graph = Graph()
    program.write(graph)
    written = graph.model(inputs=program.inputs, outputs=program.outputs)
    found = distances(program, program.expected(model), _runner(written.SerializeToString()))
    refuse_unless_equal(found, tolerance=program.tolerance, where=_path(stem, program))
    differences |= found
    graphs.append(written)
  identity = hashlib.sha256(b"".join(graph.SerializeToString() for graph in graphs)).hexdigest()[:12]
  block = dict(facts) | {
    "parts": [program.suffix for program in programs],
    "opset": OPSET,
    "parity": {"relative difference from JAX": differences, "tolerance": max(one.tolerance for one in programs)},
    "written by": {name: importlib.metadata.version(name) for name in _WRITERS},
    "export": identity,
  }
  files: dict[Path, str | bytes] = {
    _path(stem, program): _with_metadata(graph, block) for program, graph in zip(programs, graphs, strict=True)
  }
  files |= {stem.with_name(stem.name + end): text for end, text in (beside or {}).items()}
  write_together(files)
  return ExportReport(tuple(files), sum(map(len, files.values())), differences)


def _runner(data: bytes) -> Any:
  """Returns the function from inputs to outputs of an ONNX file in onnxruntime."""
  import onnxruntime

  options = onnxruntime.SessionOptions()
  options.log_severity_level = 3
  session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
  names = [output.name for output in session.get_outputs()]

  def run(inputs: Arrays) -> Arrays:
    return {name: np.asarray(value) for name, value in zip(names, session.run(names, dict(inputs)), strict=True)}

  return run


def _with_metadata(model: Any, facts: Mapping[str, Any]) -> bytes:
  from onnx import helper

  helper.set_model_props(model, {METADATA: json.dumps(facts), "sample_rate": str(facts["sample_rate"])})
  return model.SerializeToString()


def _path(stem: Path, program: Program) -> Path:
  return stem.with_name(f"{stem.name}{program.suffix}.onnx")
