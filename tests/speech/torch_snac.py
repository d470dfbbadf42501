"""SNAC in torch, written from its description; parameter names are those of released files."""

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from omni_jax.speech.snac import SNACConfig


class TorchSnake(nn.Module):
  def __init__(self, width):
    super().__init__()
    self.alpha = nn.Parameter(torch.ones(1, width, 1))

  def forward(self, x):
    return x + torch.sin(self.alpha * x) ** 2 / (self.alpha + 1e-9)


class Around(nn.Module):
  """x + block(x)."""

  def __init__(self, *layers):
    super().__init__()
    self.block = nn.Sequential(*layers)

  def forward(self, x):
    return x + self.block(x)


class Inside(nn.Module):
  def __init__(self, *layers):
    super().__init__()
    self.block = nn.Sequential(*layers)

  def forward(self, x):
    return self.block(x)


class TorchNoise(nn.Module):
  """`noises` are handed in from outside, one for each use."""

  def __init__(self, width, noises):
    super().__init__()
    self.linear = weight_norm(nn.Conv1d(width, width, 1, bias=False))
    self.noises = noises

  def forward(self, x):
    return x + self.noises.pop(0) * self.linear(x)


def _units(width, groups):
  return [
    Around(
      TorchSnake(width),
      weight_norm(nn.Conv1d(width, width, 7, dilation=dilation, padding=3 * dilation, groups=groups)),
      TorchSnake(width),
      weight_norm(nn.Conv1d(width, width, 1)),
    )
    for dilation in (1, 3, 9)
  ]


class TorchQuantizer(nn.Module):
  def __init__(self, width, config, stride):
    super().__init__()
    self.stride = stride
    self.in_proj = weight_norm(nn.Conv1d(width, config.code_width, 1))
    self.out_proj = weight_norm(nn.Conv1d(config.code_width, width, 1))
    self.codebook = nn.Embedding(config.codebook_size, config.code_width)

  def codes(self, x):
    x = self.in_proj(functional.avg_pool1d(x, self.stride)).transpose(1, 2)
    similar = functional.normalize(x, dim=-1) @ functional.normalize(self.codebook.weight, dim=-1).T
    return similar.argmax(-1)

  def latents(self, codes):
    return self.out_proj(self.codebook(codes).transpose(1, 2)).repeat_interleave(self.stride, dim=-1)


class TorchSNAC(nn.Module):
  def __init__(self, config: SNACConfig):
    super().__init__()
    self.noises = []
    width = config.encoder_width
    layers = [weight_norm(nn.Conv1d(1, width, 7, padding=3))]
    for rate in config.encoder_rates:
      down = weight_norm(nn.Conv1d(width, 2 * width, 2 * rate, rate, padding=(rate + 1) // 2))
      layers.append(Inside(*_units(width, width if config.depthwise else 1), TorchSnake(width), down))
      width *= 2
    layers.append(weight_norm(nn.Conv1d(width, width, 7, padding=3, groups=width if config.depthwise else 1)))
    self.encoder = Inside(*layers)
    self.quantizer = nn.Module()
    self.quantizer.quantizers = nn.ModuleList([TorchQuantizer(width, config, stride) for stride in config.strides])
    self.decoder = nn.Module()
    self.decoder.model = nn.Sequential(*self._decoder(config, width))

  def _decoder(self, config, inputs):
    width = config.decoder_width
    if config.depthwise:
      layers = [nn.Conv1d(inputs, inputs, 7, padding=3, groups=inputs), nn.Conv1d(inputs, width, 1)]
    else:
      layers = [nn.Conv1d(inputs, width, 7, padding=3)]
    layers = [weight_norm(layer) for layer in layers]
    for rate in config.decoder_rates:
      half = width // 2
      up = nn.ConvTranspose1d(width, half, 2 * rate, rate, padding=(rate + 1) // 2, output_padding=rate % 2)
      stage = [TorchSnake(width), weight_norm(up)]
      stage += [TorchNoise(half, self.noises)] if config.noise else []
      layers.append(Inside(*stage, *_units(half, half if config.depthwise else 1)))
      width = half
    return [*layers, TorchSnake(width), weight_norm(nn.Conv1d(width, 1, 7, padding=3)), nn.Tanh()]

  def encode(self, waveform):
    left, codes = self.encoder(waveform[:, None]), []
    for quantizer in self.quantizer.quantizers:
      codes.append(quantizer.codes(left))
      left = left - quantizer.latents(codes[-1])
    return codes

  def decode(self, codes, noises):
    self.noises[:] = noises
    latents = sum(quantizer.latents(one) for quantizer, one in zip(self.quantizer.quantizers, codes, strict=True))
    return self.decoder.model(latents)[:, 0]
