"""Torch modules with the names and the arithmetic of EMOVA's projectors, written from their description.

The bottleneck is timm 0.9.12's as the C-Abstractor configures it; against timm itself it was compared once by hand.
"""

from collections import OrderedDict

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn


class ChannelNorm(nn.LayerNorm):
  """LayerNorm over the channels of [B, C, Y, X]."""

  def forward(self, x):
    return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Conv(nn.Module):
  def __init__(self, inputs, outputs, size=1, groups=1):
    super().__init__()
    self.conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, groups=groups, bias=False)
    self.bn = ChannelNorm(outputs, eps=1e-5)

  def forward(self, x):
    return self.bn(self.conv(x))


class Squeeze(nn.Module):
  def __init__(self, width, squeezed):
    super().__init__()
    self.fc1, self.fc2 = nn.Conv2d(width, squeezed, 1), nn.Conv2d(squeezed, width, 1)

  def forward(self, x):
    weights = self.fc2(nn.functional.silu(self.fc1(x.mean((2, 3), keepdim=True))))
    return x * torch.sigmoid(weights)


class Bottleneck(nn.Module):
  def __init__(self, inputs, outputs):
    super().__init__()
    self.conv1 = Conv(inputs, outputs)
    self.conv2 = Conv(outputs, outputs, size=3, groups=outputs)
    self.se = Squeeze(outputs, round(inputs * 0.25))
    self.conv3 = Conv(outputs, outputs)
    self.downsample = Conv(inputs, outputs) if inputs != outputs else nn.Identity()

  def forward(self, x):
    y = nn.functional.silu(self.conv2(nn.functional.silu(self.conv1(x))))
    return nn.functional.silu(self.conv3(self.se(y)) + self.downsample(x))


def stage(inputs, width, depth):
  blocks = [Bottleneck(inputs if index == 0 else width, width) for index in range(depth)]
  return nn.Sequential(OrderedDict((f"b{index + 1}", block) for index, block in enumerate(blocks)))


class SelfMining(nn.Module):
  def __init__(self, dim, head_dim):
    super().__init__()
    self.norm_media, self.norm_context = nn.LayerNorm(dim), nn.LayerNorm(dim)
    self.to_q, self.to_kv = nn.Linear(dim, dim, bias=False), nn.Linear(dim, 2 * dim, bias=False)
    self.heads, self.head_dim = dim // head_dim, head_dim

  def forward(self, windows):
    query = self.norm_media(windows.mean(1, keepdim=True))
    keys, values = self.to_kv(torch.cat([self.norm_context(windows), query], dim=1)).chunk(2, dim=-1)
    q, k, v = (
      y.reshape(len(windows), -1, self.heads, self.head_dim).transpose(1, 2) for y in (self.to_q(query), keys, values)
    )
    weights = torch.softmax(q @ k.transpose(2, 3) / self.head_dim**0.5, dim=-1)
    return (weights @ v).transpose(1, 2).reshape(len(windows), -1)


class Projector(nn.Module):
  """The shell of EMOVA's downsampling projectors; `kind` chooses what joins neighbours."""

  def __init__(self, config, kind):
    super().__init__()
    self.side, self.out_side, self.kind = config.side, config.out_side, kind
    edge = config.side // config.out_side
    width = {"convolution": getattr(config.mixer, "width", 0), "concatenation": edge**2 * config.inputs}
    mixed = width.get(kind, config.inputs)
    if kind == "convolution":
      depth = config.mixer.depth
      before, after = stage(config.inputs, mixed, depth), stage(mixed, mixed, depth)
      self.downsampler = nn.Sequential(before, nn.AdaptiveAvgPool2d(config.out_side), after)
    elif kind == "mining":
      self.downsampler = SelfMining(config.inputs, config.mixer.head_dim)
    elif kind == "mean":
      self.downsampler = nn.AdaptiveAvgPool2d(config.out_side)
    self.mlp = nn.Sequential(nn.Linear(mixed, config.outputs), nn.GELU(), nn.Linear(config.outputs, config.outputs))
    self.norm = nn.LayerNorm(config.inputs) if config.input_norm else None
    if config.positions:
      self.pos_emb = nn.Parameter(torch.zeros(config.side**2, config.inputs))

  def forward(self, x):
    x = x if self.norm is None else self.norm(x)
    x = x + self.pos_emb if hasattr(self, "pos_emb") else x
    plane = x.reshape(len(x), self.side, self.side, -1)
    if self.kind in ("convolution", "mean"):
      return self.mlp(self.downsampler(plane.movedim(-1, 1)).flatten(2).transpose(1, 2))
    edge = self.side // self.out_side
    cells = plane.unfold(1, edge, edge).unfold(2, edge, edge)  # [B, Y, X, D, row, column]
    cells = cells.movedim(3, -1).reshape(len(x), self.out_side**2, edge**2, -1)
    if self.kind == "concatenation":
      return self.mlp(cells.flatten(2))
    return self.mlp(self.downsampler(cells.flatten(0, 1)).reshape(len(x), self.out_side**2, -1))


class Residual(nn.Module):
  def __init__(self, width):
    super().__init__()
    self.pre_norm = nn.LayerNorm(width)
    self.proj = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

  def forward(self, x):
    x = self.pre_norm(x)
    return x + self.proj(x)
