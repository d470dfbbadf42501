"""The layers of the speech modules as ONNX nodes, under the names of the modules that they write.

`x` is the name of frames [B, C, T], as ONNX convolves them, or [B, T, C] where a layer works along the channels; each
function says which. `valid` is [B, 1, T], 1 on frames of the utterance, or None where all are. Kernels with weight norm
are folded.
"""

from typing import Any

import numpy as np

from omni_jax.export.onnx_graph import Graph
from omni_jax.nn.convolution import Convolution, FrameNorm
from omni_jax.nn.linear import Linear
from omni_jax.nn.norm import LayerNorm
from omni_jax.nn.weight_norm import Kernel, NormedConvolution, NormedUpsampling
from omni_jax.speech.gated_convolutions import GatedConvolutions
from omni_jax.speech.hifigan import LAST_SLOPE, SLOPE, HiFiGAN, ResidualBlock


def convolution(graph: Graph, x: str, layer: NormedConvolution | Convolution | Linear, *, scale: float = 1.0) -> str:
  """Returns frames [B, C', T'] of [B, C, T]; `scale` is what the kernel is multiplied by, the bias is not."""
  if isinstance(layer, NormedConvolution):
    shape, weight = layer.kernel, layer.weight()
  elif isinstance(layer, Convolution):
    weight = layer.weight[...]
    shape = Kernel(taps=weight.shape[0], stride=layer.stride)
  else:
    shape, weight = Kernel(taps=1), layer.weight[...][None]
  kernel = scale * np.asarray(weight).transpose(2, 1, 0)
  return graph(
    "Conv",
    x,
    kernel,
    *_bias(layer),
    kernel_shape=[shape.taps],
    strides=[shape.stride],
    dilations=[shape.dilation],
    group=shape.groups,
    pads=[shape.sides, shape.sides],
  )


def upsampling(graph: Graph, x: str, layer: NormedUpsampling, *, scale: float = 1.0) -> str:
  """Returns frames [B, C', T'] of [B, C, T] at the higher rate."""
  shape = layer.kernel
  return graph(
    "ConvTranspose",
    x,
    scale * np.asarray(layer.weight()).transpose(1, 2, 0),
    *_bias(layer),
    kernel_shape=[shape.taps],
    strides=[shape.stride],
    pads=[shape.sides, shape.sides],
    output_padding=[layer.extra],
  )


def linear(graph: Graph, x: str, layer: Linear) -> str:
  """Returns [B, T, C'] of [B, T, C]."""
  y = graph("MatMul", x, layer.weight[...])
  return y if layer.bias is None else graph("Add", y, layer.bias[...])


def norm(graph: Graph, x: str, layer: LayerNorm | FrameNorm) -> str:
  """Returns [B, T, C] normalised along the channels."""
  return graph("LayerNormalization", x, layer.scale[...], layer.bias[...], axis=-1, epsilon=layer.eps)


def gelu(graph: Graph, x: str) -> str:
  """Returns the exact one, by the error function."""
  half = graph("Mul", x, 0.5)
  return graph("Mul", half, graph("Add", graph("Erf", graph("Mul", x, float(np.sqrt(0.5)))), 1.0))


def masked(graph: Graph, x: str, valid: str | None) -> str:
  """Returns `x`, zero where `valid` is."""
  return x if valid is None else graph("Mul", x, valid)


def repeated(graph: Graph, x: str, times: int) -> str:
  """Returns [B, C, T * times] of [B, C, T], every frame `times` times."""
  if times == 1:
    return x
  tiled = graph("Tile", graph("Unsqueeze", x, np.array([3], np.int64)), np.array([1, 1, 1, times], np.int64))
  return graph.reshape(tiled, 0, 0, -1)


def all_valid(graph: Graph, valid: str) -> str:
  """Returns whether `valid` [B, T] is 1 everywhere, as one bool."""
  return graph("Greater", graph("ReduceMin", valid, keepdims=0), 0.5)


def gated_convolutions(
  graph: Graph, x: str, stack: GatedConvolutions, *, valid: str | None, condition: str | None
) -> str:
  """Returns frames [B, C, T] of the same shape; `condition` is [B, G, 1]."""
  depth, width = stack.config.depth, stack.config.width
  offsets: list[str] = []
  if condition is not None:
    assert stack.condition is not None, "a condition is given where the config has one"
    offsets = graph.split(convolution(graph, condition, stack.condition), (2 * width,) * depth, axis=1)
  result = ""
  for layer in range(depth):
    y = convolution(graph, x, stack.gated[layer])
    y = graph("Add", y, offsets[layer]) if offsets else y
    signal, gate = graph.split(y, (width, width), axis=1)
    y = convolution(graph, graph("Mul", graph("Tanh", signal), graph("Sigmoid", gate)), stack.mixed[layer])
    if layer < depth - 1:
      more, y = graph.split(y, (width, width), axis=1)
      x = masked(graph, graph("Add", x, more), valid)
    result = graph("Add", result, y) if result else y
  return masked(graph, result, valid)


def hifigan(graph: Graph, x: str, generator: HiFiGAN, *, valid: str | None, condition: str | None) -> str:
  """Returns samples [B, T * hop] of frames [B, C, T]; `condition` is [B, G, 1].

  The mean over the residual blocks of a stage is a factor of the kernel behind it: a leaky ReLU lets factors through.
  """
  x = convolution(graph, masked(graph, x, valid), generator.first)
  if generator.condition is not None and condition is not None:
    x = graph("Add", x, convolution(graph, condition, generator.condition))
  x, share = masked(graph, x, valid), 1.0
  for up, blocks in zip(generator.up, generator.blocks, strict=True):
    valid = None if valid is None else repeated(graph, valid, up.kernel.stride)
    x = upsampling(graph, graph("LeakyRelu", x, alpha=SLOPE), up, scale=share)
    x = masked(graph, x, valid)
    parts = [_residual_block(graph, x, block, valid) for block in blocks]
    x, share = graph("Sum", *parts), 1.0 / len(parts)
  x = convolution(graph, graph("LeakyRelu", x, alpha=LAST_SLOPE), generator.last, scale=share)
  return graph("Squeeze", masked(graph, graph("Tanh", x), valid), np.array([1], np.int64))


def _residual_block(graph: Graph, x: str, block: ResidualBlock, valid: str | None) -> str:
  for index, dilated in enumerate(block.dilated):
    y = masked(graph, convolution(graph, graph("LeakyRelu", x, alpha=SLOPE), dilated), valid)
    if block.plain:
      y = graph("LeakyRelu", y, alpha=SLOPE)
      y = masked(graph, convolution(graph, y, block.plain[index]), valid)
    x = graph("Add", x, y)
  return x


def _bias(layer: Any) -> list[np.ndarray]:
  return [] if layer.bias is None else [np.asarray(layer.bias[...])]
