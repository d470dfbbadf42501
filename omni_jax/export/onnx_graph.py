"""A few lines over `onnx.helper`: a graph is written as a sequence of calls, each returning the name of its result."""

from typing import Any

import numpy as np

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
    identity = (str(array.dtype), array.shape, array.tobytes())
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

  def model(self, *, inputs: dict[str, list], outputs: dict[str, list], properties: dict[str, str]) -> Any:
    """Returns the checked ONNX model.

    Args:
      inputs: name -> sizes of an int64 input; a text stands for a size that is not fixed.
      outputs: name -> sizes of a float32 output.
      properties: metadata kept in the file.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
      self._nodes,
      "vocoder",
      [helper.make_tensor_value_info(name, TensorProto.INT64, sizes) for name, sizes in inputs.items()],
      [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name, sizes in outputs.items()],
      [numpy_helper.from_array(array, name) for name, array in self._constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(model, properties)
    onnx.checker.check_model(model)
    return model


def _whole(value: int) -> np.ndarray:
  return np.array([value], np.int64)
