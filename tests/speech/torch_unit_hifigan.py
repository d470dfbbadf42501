"""SpeechGPT's unit vocoder in torch, written from its description; parameter names are those of released files."""

import torch
from torch import nn

from omni_jax.speech.unit_hifigan import UnitHiFiGANConfig
from tests.speech.torch_hifigan import TorchHiFiGAN


class TorchDurations(nn.Module):
  def __init__(self, inputs: int, width: int, taps: int):
    super().__init__()
    self.conv1 = nn.Sequential(nn.Conv1d(inputs, width, taps, padding=taps // 2), nn.ReLU())
    self.ln1 = nn.LayerNorm(width)
    self.conv2 = nn.Sequential(nn.Conv1d(width, width, taps, padding=1), nn.ReLU())
    self.ln2 = nn.LayerNorm(width)
    self.proj = nn.Linear(width, 1)

  def forward(self, x):
    x = self.ln1(self.conv1(x.transpose(1, 2)).transpose(1, 2))
    x = self.ln2(self.conv2(x.transpose(1, 2)).transpose(1, 2))
    return self.proj(x)[..., 0]


class TorchUnitHiFiGAN(TorchHiFiGAN):
  def __init__(self, config: UnitHiFiGANConfig):
    super().__init__(config.generator)
    self.dict = nn.Embedding(config.codebook_size, config.embedding)
    if config.speakers:
      self.spkr = nn.Embedding(config.speakers, config.embedding)
    self.dur_predictor = TorchDurations(config.embedding, config.duration.width, config.duration.taps)

  def counts(self, units: torch.Tensor) -> torch.Tensor:
    return torch.clamp(torch.round(torch.exp(self.dur_predictor(self.dict(units))) - 1).long(), min=1)

  def speak(self, units: torch.Tensor, speaker: int | None = None) -> torch.Tensor:
    """Returns the waveform [1, A] of reduced units [1, N]."""
    x = torch.repeat_interleave(self.dict(units), self.counts(units)[0], dim=1).transpose(1, 2)
    if speaker is not None:
      voice = self.spkr(torch.tensor([speaker]))[..., None]
      x = torch.cat([x, voice.expand(-1, -1, x.shape[2])], dim=1)
    return self(x)
