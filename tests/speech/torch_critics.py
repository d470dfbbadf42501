"""Critics by scales and periods and their losses in torch, written from their descriptions, under released names."""

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import weight_norm

from omni_jax.speech.discriminators import PeriodsConfig, ScalesConfig


class TorchLayers(nn.Module):
  def __init__(self, layers, post):
    super().__init__()
    self.convs = nn.ModuleList([weight_norm(layer) for layer in layers])
    self.conv_post = weight_norm(post)

  def forward(self, x):
    outputs = []
    for layer in self.convs:
      x = functional.leaky_relu(layer(x), 0.1)
      outputs.append(x)
    return [*outputs, self.conv_post(x)]


def _line(layers):
  widths = [1, *(layer[0] for layer in layers)]
  found = [
    nn.Conv1d(inputs, outputs, taps, stride, taps // 2, groups=groups)
    for inputs, (outputs, taps, stride, groups) in zip(widths[:-1], layers, strict=True)
  ]
  return TorchLayers(found, nn.Conv1d(widths[-1], 1, 3, padding=1))


def _plane(config):
  widths, strides = [1, *config.widths], [config.stride] * (len(config.widths) - 1) + [1]
  found = [
    nn.Conv2d(inputs, outputs, (config.taps, 1), (stride, 1), (config.taps // 2, 0))
    for inputs, outputs, stride in zip(widths[:-1], widths[1:], strides, strict=True)
  ]
  return TorchLayers(found, nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))


class TorchCritic(nn.Module):
  """Scales, then periods, in one list."""

  def __init__(self, scales: ScalesConfig, periods: PeriodsConfig):
    super().__init__()
    self.scales, self.periods = scales.scales, periods.periods
    parts = [_line(scales.layers) for _ in range(scales.scales)] + [_plane(periods) for _ in periods.periods]
    self.discriminators = nn.ModuleList(parts)

  def forward(self, waveform):
    found, x = [], waveform[:, None]
    for number in range(self.scales):
      x = functional.avg_pool1d(x, 4, 2, padding=2) if number else x
      found.append(self.discriminators[number](x))
    for part, period in zip(self.discriminators[self.scales :], self.periods, strict=True):
      x = functional.pad(waveform[:, None], (0, -waveform.shape[1] % period), "reflect")
      found.append(part(x.reshape(x.shape[0], 1, -1, period)))
    return found


def critic_loss(real, made):
  pairs = zip(real, made, strict=True)
  return sum(((1 - one[-1]) ** 2).mean() + (other[-1] ** 2).mean() for one, other in pairs)


def generator_loss(made):
  return sum(((1 - part[-1]) ** 2).mean() for part in made)


def feature_distance(real, made):
  pairs = [pair for one, other in zip(real, made, strict=True) for pair in zip(one, other, strict=True)]
  return sum((one - other).abs().mean() for one, other in pairs)


def log_mel(waveform, spectrum, bands, floor):
  side = (spectrum.fft_size - spectrum.hop_samples) // 2
  padded = functional.pad(waveform[:, None], (side, side), "reflect")[:, 0]
  window = torch.hann_window(spectrum.window_samples)
  values = torch.stft(
    padded, spectrum.fft_size, spectrum.hop_samples, spectrum.window_samples, window, center=False, return_complex=True
  )
  power = values.real**2 + values.imag**2
  return torch.log(torch.clamp((power + floor).sqrt().transpose(1, 2) @ bands, min=1e-5))
