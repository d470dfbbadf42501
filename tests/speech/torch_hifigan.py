"""The HiFi-GAN generator in torch, written from its description; parameter names are those of released files."""

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import weight_norm

from omni_jax.speech.hifigan import HiFiGANConfig


def _same(width: int, taps: int, dilation: int) -> nn.Module:
  return weight_norm(nn.Conv1d(width, width, taps, dilation=dilation, padding=dilation * (taps // 2)))


class TorchBlock(nn.Module):
  def __init__(self, width, taps, dilations, paired):
    super().__init__()
    dilated = nn.ModuleList([_same(width, taps, dilation) for dilation in dilations])
    if paired:
      self.convs1, self.convs2 = dilated, nn.ModuleList([_same(width, taps, 1) for _ in dilations])
    else:
      self.convs = dilated
    self.paired = paired

  def forward(self, x):
    for index, dilated in enumerate(self.convs1 if self.paired else self.convs):
      y = dilated(functional.leaky_relu(x, 0.1))
      x = x + (self.convs2[index](functional.leaky_relu(y, 0.1)) if self.paired else y)
    return x


class TorchHiFiGAN(nn.Module):
  def __init__(self, config: HiFiGANConfig):
    super().__init__()
    normed = weight_norm if config.normed_ends else lambda layer: layer
    self.conv_pre = normed(nn.Conv1d(config.inputs, config.width, 7, padding=3))
    if config.condition:
      self.cond = nn.Conv1d(config.condition, config.width, 1)
    self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
    width = config.width
    for rate, taps in zip(config.rates, config.taps, strict=True):
      self.ups.append(weight_norm(nn.ConvTranspose1d(width, width // 2, taps, rate, padding=(taps - rate) // 2)))
      width //= 2
      for block_taps, dilations in zip(config.block_taps, config.block_dilations, strict=True):
        self.resblocks.append(TorchBlock(width, block_taps, dilations, config.residual == "1"))
    self.conv_post = normed(nn.Conv1d(width, 1, 7, padding=3, bias=config.last_bias))

  def forward(self, x: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
    x = self.conv_pre(x)
    if condition is not None:
      x = x + self.cond(condition[..., None])
    each = len(self.resblocks) // len(self.ups)
    for stage, up in enumerate(self.ups):
      x = up(functional.leaky_relu(x, 0.1))
      blocks = self.resblocks[stage * each : (stage + 1) * each]
      x = sum(block(x) for block in blocks) / each
    return torch.tanh(self.conv_post(functional.leaky_relu(x, 0.01)))[:, 0]
