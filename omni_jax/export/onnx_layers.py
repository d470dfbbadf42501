"""The layers of the speech modules as ONNX nodes, under the names of the modules that they write.

`x` is the name of frames: [B, C, 1, T] where a layer convolves, [B, T, C] where it works along the channels; each
function says which. Convolutions over time are written as ones over pictures one row high, for which onnxruntime has
its fastest kernels on CPUs (those of EMOVA's decoder together take 0.75 of the time). Kernels with weight norm are
folded. Nothing is masked: rows of a batch are equally long, and the ends of a sequence are those of the tensor.
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


def to_pictures(graph: Graph, x: str) -> str:
  """Returns [B, C, 1, T] of [B, T, C]."""
  return graph("Unsqueeze", graph("Transpose", x, perm=[0, 2, 1]), np.array([2], np.int64))


def from_pictures(graph: Graph, x: str) -> str:
  """Returns [B, T, C] of [B, C, 1, T]."""
  return graph("Transpose", graph("Squeeze", x, np.array([2], np.int64)), perm=[0, 2, 1])


def to_samples(graph: Graph, x: str) -> str:
  """Returns [B, T] of [B, 1, 1, T]."""
  return graph("Squeeze", x, np.array([1, 2], np.int64))


def convolution(graph: Graph, x: str, layer: NormedConvolution | Convolution | Linear, *, scale: float = 1.0) -> str:
  """Returns frames [B, C', 1, T'] of [B, C, 1, T]; `scale` is what the kernel is multiplied by, the bias is not."""
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
    kernel[:, :, None],
    *_bias(layer),
    kernel_shape=[1, shape.taps],
    strides=[1, shape.stride],
    dilations=[1, shape.dilation],
    group=shape.groups,
    pads=[0, shape.sides, 0, shape.sides],
  )


def upsampling(graph: Graph, x: str, layer: NormedUpsampling, *, scale: float = 1.0) -> str:
  """Returns frames [B, C', 1, T'] of [B, C, 1, T] at the higher rate."""
  shape = layer.kernel
  kernel = scale * np.asarray(layer.weight()).transpose(1, 2, 0)
  return graph(
    "ConvTranspose",
    x,
    kernel[:, :, None],
    *_bias(layer),
    kernel_shape=[1, shape.taps],
    strides=[1, shape.stride],
    pads=[0, shape.sides, 0, shape.sides],
    output_padding=[0, layer.extra],
  )


def over_time(graph: Graph, x: str, layer: NormedConvolution | Convolution) -> str:
  """Returns [B, T, C'] of [B, T, C] after a convolution."""
  return from_pictures(graph, convolution(graph, to_pictures(graph, x), layer))


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


def repeated(graph: Graph, x: str, times: int) -> str:
  """Returns [B, C, 1, T * times] of [B, C, 1, T], every frame `times` times."""
  if times == 1:
    return x
  tiled = graph("Tile", graph("Unsqueeze", x, np.array([4], np.int64)), np.array([1, 1, 1, 1, times], np.int64))
  return graph.reshape(tiled, 0, 0, 1, -1)


def gated_convolutions(graph: Graph, x: str, stack: GatedConvolutions, *, condition: str | None) -> str:
  """Returns frames [B, C, 1, T] of the same shape; `condition` is [B, G, 1, 1]."""
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
      x = graph("Add", x, more)
    result = graph("Add", result, y) if result else y
  return result


def hifigan(graph: Graph, x: str, generator: HiFiGAN, *, condition: str | None) -> str:
  """Returns samples [B, T * hop] of frames [B, C, 1, T]; `condition` is [B, G, 1, 1].

  The mean over the residual blocks of a stage is a factor of the kernel behind it: a leaky ReLU lets factors through.
  """
  x, share = convolution(graph, x, generator.first), 1.0
  if generator.condition is not None and condition is not None:
    x = graph("Add", x, convolution(graph, condition, generator.condition))
  for up, blocks in zip(generator.up, generator.blocks, strict=True):
    x = upsampling(graph, graph("LeakyRelu", x, alpha=SLOPE), up, scale=share)
    parts = [_residual_block(graph, x, block) for block in blocks]
    x, share = graph("Sum", *parts), 1.0 / len(parts)
  x = convolution(graph, graph("LeakyRelu", x, alpha=LAST_SLOPE), generator.last, scale=share)
  return to_samples(graph, graph("Tanh", x))


def _residual_block(graph: Graph, x: str, block: ResidualBlock) -> str:
  for index, dilated in enumerate(block.dilated):
    y = convolution(graph, graph("LeakyRelu", x, alpha=SLOPE), dilated)
    if block.plain:
      y = convolution(graph, graph("LeakyRelu", y, alpha=SLOPE), block.plain[index])
    x = graph("Add", x, y)
  return x


def _bias(layer: Any) -> list[np.ndarray]:
  return [] if layer.bias is None else [np.asarray(layer.bias[...])]
