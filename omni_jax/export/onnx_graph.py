"""A few lines over `onnx.helper`: a graph is written as a sequence of calls, each returning the name of its result."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from omni_jax.export.programs import Port

OPSET = 17
IR_VERSION = 8  # of opset 17's time: read by every runtime since 2022


class Graph:
  """A graph being written. Values are names; arrays and numbers given as inputs become constants."""

  def __init__(self):
    self._nodes: list[Any] = []
    self._constants: dict[str, np.ndarray] = {}
    self._seen: dict[tuple[str, tuple[int, ...], bytes], str] = {}

  def __call__(self, operator: str, *inputs: Any, output: str = "", **attributes: Any) -> str:
    """Adds a node and returns the name of its one output, `output` if that is given."""
    from onnx import helper

    names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
    output = output or f"{operator.lower()}_{len(self._nodes)}"
    self._nodes.append(helper.make_node(operator, names, [output], **attributes))
    return output

  def constant(self, value: Any) -> str:
    """Returns the name of a constant; equal ones are stored once. Python numbers become float32."""
    array = np.asarray(value, np.float32 if type(value) is float else None, order="C")
    identity = (str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).digest())
    if identity not in self._seen:
      name = f"constant_{len(self._seen)}"
      self._seen[identity], self._constants[name] = name, array
    return self._seen[identity]

  def slice(self, x: str, start: int, end: int | None, *, axis: int) -> str:
    """Returns x[start:end] along `axis`, as in Python."""
    last = np.iinfo(np.int64).max if end is None else end
    return self("Slice", x, _whole(start), _whole(last), _whole(axis))

  def reshape(self, x: str, *sizes: int) -> str:
    """Returns x in another shape; one size may be -1."""
    return self("Reshape", x, np.array(sizes, np.int64))

  def split(self, x: str, sizes: tuple[int, ...], *, axis: int) -> list[str]:
    """Returns the parts of `x` along `axis`."""
    from onnx import helper

    outputs = [f"split_{len(self._nodes)}_{part}" for part in range(len(sizes))]
    names = [x, self.constant(np.array(sizes, np.int64))]
    self._nodes.append(helper.make_node("Split", names, outputs, axis=axis))
    return outputs

  def model(self, *, inputs: Mapping[str, Port], outputs: Mapping[str, Port]) -> Any:
    """Returns the checked ONNX model; an input that no node reads is declared all the same."""
    import onnx
    from onnx import helper, numpy_helper

    def infos(ports: Mapping[str, Port]) -> list[Any]:
      kinds = {name: helper.np_dtype_to_tensor_dtype(np.dtype(port.dtype)) for name, port in ports.items()}
      return [helper.make_tensor_value_info(name, kinds[name], port.sizes) for name, port in ports.items()]

    stored = [numpy_helper.from_array(array, name) for name, array in self._constants.items()]
    graph = helper.make_graph(self._nodes, "vocoder", infos(inputs), infos(outputs), stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def _whole(value: int) -> np.ndarray:
  return np.array([value], np.int64)
