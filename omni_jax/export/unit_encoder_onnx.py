"""What VITS knows of units before they sound, as ONNX nodes: the unit encoder and the stochastic duration predictor.

Written in the order of `speech/unit_encoder.py`, `duration_predictor.py` and `splines.py`, on frames [B, U, C]; noise
comes from outside, so that a runtime decides what is drawn.
"""

import math
from typing import NamedTuple

import numpy as np

from omni_jax.export.onnx_graph import Graph
from omni_jax.export.onnx_layers import gelu, linear, norm, over_time
from omni_jax.nn.stack import depth_of, slice_layer
from omni_jax.speech.duration_predictor import DilatedLayer, DilatedStack, DurationPredictor, SplineFlow
from omni_jax.speech.splines import LEAST_HEIGHT, LEAST_SLOPE, LEAST_WIDTH
from omni_jax.speech.unit_encoder import EncoderLayer, RelativeAttention, UnitEncoder

_HIDDEN_SCORE = -1e4


class UnitMasks(NamedTuple):
  """`columns` [B, U, 1] and `keys` (bool [B, 1, 1, U]) of the units that are there."""

  columns: str
  keys: str


class PriorNames(NamedTuple):
  """Hidden states, mean and logarithm of the deviation, [B, U, C] each."""

  hidden: str
  mean: str
  log_deviation: str


class _Offsets(NamedTuple):
  """Which offset a pair of positions has and the other way round, with what exists of it."""

  of_pair: str  # [1, 1, U, U]
  is_near: str
  position: str  # [1, 1, U, 2 W + 1]
  is_inside: str


def unit_masks(graph: Graph, valid: str) -> UnitMasks:
  """Returns the masks of `valid` [B, U]."""
  keys = graph("Unsqueeze", graph("Greater", valid, 0.5), np.array([1, 2], np.int64))
  return UnitMasks(graph("Unsqueeze", valid, np.array([2], np.int64)), keys)


def write_prior(graph: Graph, encoder: UnitEncoder, units: str, masks: UnitMasks, *, first_unit: int) -> PriorNames:
  """Returns the prior of units [B, U], zero where they are not valid; ids outside the table stop the runtime."""
  config = encoder.config
  rows = encoder.table[...][first_unit:] * np.float32(math.sqrt(config.width))
  x = graph("Mul", graph("Gather", rows, units), masks.columns)
  offsets = _offsets(graph, units, window=config.window)
  for index in range(depth_of(encoder.layers)):
    x = _encoder_layer(graph, slice_layer(encoder.layers, index), x, masks, offsets)
  x = graph("Mul", x, masks.columns)
  numbers = graph("Mul", linear(graph, x, encoder.output), masks.columns)
  mean, log_deviation = graph.split(numbers, (config.latent, config.latent), axis=2)
  return PriorNames(x, mean, log_deviation)


def write_log_durations(
  graph: Graph, predictor: DurationPredictor, hidden: str, masks: UnitMasks, *, condition: str | None, noise: str
) -> str:
  """Returns logarithms of frames [B, U] of hidden states, a condition [B, G] and noise [B, U, 2]."""
  columns = masks.columns
  x = linear(graph, hidden, predictor.input)
  if condition is not None:
    assert predictor.condition is not None, "a condition is given where the config has one"
    given = linear(graph, condition, predictor.condition)
    x = graph("Add", x, graph("Unsqueeze", given, np.array([1], np.int64)))
  x = _dilated_stack(graph, predictor.stack, x, columns)
  known = graph("Mul", linear(graph, x, predictor.output), columns)
  first, second = graph.split(graph("Mul", noise, columns), (1, 1), axis=2)
  for flow in reversed(predictor.flows[1:]):
    first, second = second, first  # channels change places in front of every flow
    second = graph("Mul", _unbend(graph, flow, first, second, known=known, valid=columns), columns)
    first = graph("Mul", first, columns)
  # Channels change places once more, and the first one is wanted.
  shift, log_scale = (float(part[...][0]) for part in (predictor.affine.shift, predictor.affine.log_scale))
  logs = graph("Mul", graph("Sub", second, shift), math.exp(-log_scale))
  return graph("Squeeze", graph("Mul", logs, columns), np.array([2], np.int64))


def _offsets(graph: Graph, units: str, *, window: int) -> _Offsets:
  length = graph("Squeeze", graph.slice(graph("Shape", units), 1, 2, axis=0))
  row = graph("Range", np.int64(0), length, np.int64(1))
  column = graph.reshape(row, 1, 1, -1, 1)
  offset = graph("Add", graph("Sub", graph.reshape(row, 1, 1, 1, -1), column), np.int64(window))
  of_pair = graph("Clip", offset, np.int64(0), np.int64(2 * window))
  place = graph("Add", column, np.arange(-window, window + 1)[None, None, None])
  last = graph("Sub", length, np.int64(1))
  position = graph("Max", graph("Min", place, last), np.int64(0))
  return _Offsets(of_pair, graph("Equal", offset, of_pair), position, graph("Equal", place, position))


def _encoder_layer(graph: Graph, layer: EncoderLayer, x: str, masks: UnitMasks, offsets: _Offsets) -> str:
  x = norm(graph, graph("Add", x, _attention(graph, layer.attention, x, masks, offsets)), layer.attention_norm)
  y = over_time(graph, graph("Mul", x, masks.columns), layer.up)
  y = over_time(graph, graph("Mul", graph("Relu", y), masks.columns), layer.down)
  y = graph("Mul", y, masks.columns)
  return norm(graph, graph("Add", x, y), layer.feed_forward_norm)


def _attention(graph: Graph, layer: RelativeAttention, x: str, masks: UnitMasks, offsets: _Offsets) -> str:
  width = layer.query.weight.shape[0]

  def heads(y: str) -> str:
    return graph("Transpose", graph.reshape(y, 0, 0, layer.num_heads, -1), perm=[0, 2, 1, 3])

  queries = graph("Mul", heads(linear(graph, x, layer.query)), (width // layer.num_heads) ** -0.5)
  keys, values = heads(linear(graph, x, layer.key)), heads(linear(graph, x, layer.value))
  scores = graph("MatMul", queries, graph("Transpose", keys, perm=[0, 1, 3, 2]))
  near = graph("MatMul", queries, layer.near_keys[...].T)
  by_pair = _gather(graph, near, offsets.of_pair, like=scores)
  scores = graph("Add", scores, graph("Where", offsets.is_near, by_pair, 0.0))
  weights = graph("Softmax", graph("Where", masks.keys, scores, _HIDDEN_SCORE), axis=-1)
  read = graph("MatMul", weights, values)
  by_offset = _gather(graph, weights, offsets.position, like=near)
  by_offset = graph("Where", offsets.is_inside, by_offset, 0.0)
  read = graph("Add", read, graph("MatMul", by_offset, layer.near_values[...]))
  joined = graph.reshape(graph("Transpose", read, perm=[0, 2, 1, 3]), 0, 0, width)
  return linear(graph, joined, layer.output)


def _gather(graph: Graph, x: str, index: str, *, like: str) -> str:
  """Returns x [B, N, U, *] at `index` [1, 1, U, S] of its last axis, in the shape of `like`."""
  return graph("GatherElements", x, graph("Expand", index, graph("Shape", like)), axis=-1)


def _dilated_stack(graph: Graph, stack: DilatedStack, x: str, valid: str) -> str:
  for layer in stack.layers:
    x = _dilated_layer(graph, layer, x, valid)
  return graph("Mul", x, valid)


def _dilated_layer(graph: Graph, layer: DilatedLayer, x: str, valid: str) -> str:
  y = over_time(graph, graph("Mul", x, valid), layer.depthwise)
  y = linear(graph, gelu(graph, norm(graph, y, layer.depthwise_norm)), layer.mix)
  return graph("Add", x, gelu(graph, norm(graph, y, layer.mix_norm)))


def _unbend(graph: Graph, flow: SplineFlow, first: str, second: str, *, known: str, valid: str) -> str:
  """Returns the second channel [B, U, 1] before the spline of the first one bent it."""
  hidden = graph("Add", linear(graph, first, flow.input), known)
  hidden = _dilated_stack(graph, flow.stack, hidden, valid)
  numbers = graph("Mul", linear(graph, hidden, flow.output), valid)
  count = flow.output.weight.shape[1]
  bins, root = (count + 1) // 3, math.sqrt(flow.output.weight.shape[0])
  widths, heights, inner = graph.split(numbers, (bins, bins, bins - 1), axis=2)
  x = _knots(graph, graph("Mul", widths, 1 / root), bins=bins, bound=flow.bound, least=LEAST_WIDTH)
  y = _knots(graph, graph("Mul", heights, 1 / root), bins=bins, bound=flow.bound, least=LEAST_HEIGHT)
  one = float(np.log(np.expm1(1.0 - LEAST_SLOPE)))  # what softplus turns into a slope of one
  slopes = graph("Add", graph("Softplus", _padded(graph, inner, before=one, after=one)), LEAST_SLOPE)
  return _invert(graph, second, x=x, y=y, slopes=slopes, bound=flow.bound)


def _invert(graph: Graph, given: str, *, x: str, y: str, slopes: str, bound: float) -> str:
  inside = graph("Clip", given, np.float32(-bound), np.float32(bound))
  above = graph("GreaterOrEqual", inside, graph.slice(graph.slice(y, 1, None, axis=2), 0, -1, axis=2))
  index = graph("ReduceSum", graph("Cast", above, to=_INT64), np.array([2], np.int64), keepdims=1)

  def ends(knots: str) -> tuple[str, str]:
    low, high = graph.slice(knots, 0, -1, axis=2), graph.slice(knots, 1, None, axis=2)
    return graph("GatherElements", low, index, axis=2), graph("GatherElements", high, index, axis=2)

  (left_x, right_x), (left_y, right_y), (left, right) = ends(x), ends(y), ends(slopes)
  width, height = graph("Sub", right_x, left_x), graph("Sub", right_y, left_y)
  slope, above = graph("Div", height, width), graph("Sub", inside, left_y)
  bend = graph("Sub", graph("Add", left, right), graph("Mul", slope, 2.0))
  bent = graph("Mul", above, bend)
  a = graph("Add", graph("Mul", height, graph("Sub", slope, left)), bent)
  b = graph("Sub", graph("Mul", height, left), bent)
  c = graph("Neg", graph("Mul", slope, above))
  square = graph("Sub", graph("Mul", b, b), graph("Mul", graph("Mul", a, c), 4.0))
  root = graph("Sqrt", graph("Max", square, 0.0))
  place = graph("Div", graph("Mul", c, 2.0), graph("Sub", graph("Neg", b), root))
  found = graph("Add", graph("Mul", place, width), left_x)
  is_inside = graph("LessOrEqual", graph("Abs", given), bound)
  return graph("Where", is_inside, found, given)


def _knots(graph: Graph, logits: str, *, bins: int, bound: float, least: float) -> str:
  shares = graph("Add", graph("Mul", graph("Softmax", logits, axis=-1), 1 - least * bins), least)
  summed = graph.slice(graph("CumSum", shares, np.int64(2)), 0, -1, axis=2)
  return _padded(graph, graph("Sub", graph("Mul", summed, 2 * bound), bound), before=-bound, after=bound)


def _padded(graph: Graph, x: str, *, before: float, after: float) -> str:
  """Returns [B, U, K + 2] of [B, U, K]."""
  x = graph("Pad", x, np.array([0, 0, 1, 0, 0, 0], np.int64), float(before))
  return graph("Pad", x, np.array([0, 0, 0, 0, 0, 1], np.int64), float(after))


_INT64 = 7  # onnx.TensorProto.INT64, so that this module imports without onnx
