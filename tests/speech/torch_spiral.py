"""The speech-to-unit model in torch, written from its description under the original's names, as an oracle.

It was compared once with the original code: features, encoder, codes and units (docs/decisions.md).
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers.audio_utils import mel_filter_bank

from omni_jax.speech.speech_to_unit import SpeechToUnitConfig
from omni_jax.speech.spiral import ConvolutionConfig, StageConfig


class Featurizer(nn.Module):
  window: torch.Tensor
  fb: torch.Tensor

  def __init__(self, config: SpeechToUnitConfig):
    super().__init__()
    mel = config.mel
    filters = mel_filter_bank(
      num_frequency_bins=mel.fft_size // 2 + 1, num_mel_filters=mel.num_mels, min_frequency=mel.low_hz,
      max_frequency=mel.high_hz, sampling_rate=mel.sample_rate, norm="slaney", mel_scale="slaney",
    )  # fmt: skip
    self.mel = mel
    self.register_buffer("window", torch.hann_window(mel.window_samples, periodic=False))
    self.register_buffer("fb", torch.tensor(filters.T[None], dtype=torch.float32))

  def forward(self, waveform):
    """One recording [1, A], the whole of it."""
    mel = self.mel
    x = waveform / (waveform.abs().max() + 1e-5)
    x = torch.cat([x[:, :1], x[:, 1:] - 0.97 * x[:, :-1]], dim=1)
    spectrum = torch.stft(
      x, n_fft=mel.fft_size, hop_length=mel.hop_samples, win_length=mel.window_samples, window=self.window,
      center=True, pad_mode="reflect", return_complex=True,
    )  # fmt: skip
    features = torch.log(self.fb @ spectrum.abs() ** 2 + 2**-24)
    frames = math.ceil(waveform.shape[1] / mel.hop_samples)
    features = features[:, :, :frames]
    features = (features - features.mean(2, keepdim=True)) / (features.std(2, keepdim=True) + 1e-5)
    return functional.pad(features, (0, -frames % 16)), torch.tensor([frames])


class Conv(nn.Module):
  def __init__(self, inputs: int, config: ConvolutionConfig):
    super().__init__()
    self.stride = config.stride
    self.conv = nn.Conv1d(inputs, config.width, config.taps, stride=config.stride)

  def forward(self, x, length):
    taps = self.conv.kernel_size[0]
    if taps > 1:
      x = x * (torch.arange(x.shape[2]) < length)
    spare = taps - self.stride
    x = self.conv(functional.pad(x, (spare // 2, spare - spare // 2)))
    return x, torch.ceil(length / self.stride).long()


class ConvNormAct(nn.Module):
  def __init__(self, inputs: int, config: ConvolutionConfig):
    super().__init__()
    self.conv = Conv(inputs, config)
    self.norm = nn.LayerNorm(config.width) if config.norm else None
    self.relu = config.relu

  def forward(self, x, length):
    x, length = self.conv(x, length)
    x = x if self.norm is None else self.norm(x.transpose(1, 2)).transpose(1, 2)
    return (functional.relu(x) if self.relu else x), length


class SelfAttention(nn.Module):
  def __init__(self, width: int, heads: int):
    super().__init__()
    self.heads = heads
    self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

  def forward(self, x, padding):
    split = [proj(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj)]
    queries, keys, values = split
    scores = queries @ keys.transpose(2, 3) / queries.shape[-1] ** 0.5
    weights = scores.masked_fill(padding[:, None, None], float("-inf")).softmax(-1)
    return self.out_proj((weights @ values).transpose(1, 2).flatten(2))


class Layer(nn.Module):
  def __init__(self, config: StageConfig):
    super().__init__()
    width = config.width
    self.self_attn = SelfAttention(width, config.num_heads)
    self.self_attn_layer_norm, self.final_layer_norm = nn.LayerNorm(width), nn.LayerNorm(width)
    self.fc1, self.fc2 = nn.Linear(width, config.mlp_dim), nn.Linear(config.mlp_dim, width)

  def forward(self, x, padding):
    x = x + self.self_attn(self.self_attn_layer_norm(x), padding)
    return x + self.fc2(functional.gelu(self.fc1(self.final_layer_norm(x))))


class Transformer(nn.Module):
  def __init__(self, config: StageConfig, *, taps: int, groups: int):
    super().__init__()
    width = config.width
    convolution = nn.Conv1d(width, width, taps, padding=taps // 2, groups=groups)
    self.pos_conv = nn.Sequential(nn.utils.weight_norm(convolution, dim=2))
    self.layers = nn.ModuleList([Layer(config) for _ in range(config.depth)])
    self.layer_norm = nn.LayerNorm(width)

  def forward(self, x, length):
    x = x.transpose(1, 2)
    padding = (torch.arange(x.shape[1]) >= length)[None]
    x = x.masked_fill(padding[..., None], 0.0)
    positions = self.pos_conv(x.transpose(1, 2))[:, :, : x.shape[1]].transpose(1, 2)
    x = x + functional.gelu(positions)
    for layer in self.layers:
      x = layer(x, padding)
    return self.layer_norm(x).transpose(1, 2), length


class Blocks(nn.Module):
  def __init__(self, modules: list[nn.Module]):
    super().__init__()
    self.block_modules = nn.ModuleList(modules)

  def forward(self, x, length):
    for module in self.block_modules:
      x, length = module(x, length)
    return x, length


class Preprocessor(nn.Module):
  def __init__(self, config: SpeechToUnitConfig):
    super().__init__()
    self.featurizer = Featurizer(config)

  def forward(self, waveform):
    return self.featurizer(waveform)


class Encoder(nn.Module):
  def __init__(self, config: SpeechToUnitConfig):
    super().__init__()
    self.wav2spec = Preprocessor(config)
    self.register_buffer("mask_emb", torch.zeros(config.mel.num_mels))
    modules, width = [], config.mel.num_mels
    for stage in config.encoder.stages:
      for convolution in stage.convolutions:
        modules.append(ConvNormAct(width, convolution))
        width = convolution.width
      modules.append(Transformer(stage, taps=config.encoder.position_taps, groups=config.encoder.position_groups))
    self.feature_encoder = Blocks(modules)

  def forward(self, features, length):
    features, length = self.feature_encoder(features, length)
    return features.transpose(1, 2), length


class Quantizer(nn.Module):
  _levels_np: torch.Tensor
  _basis: torch.Tensor

  def __init__(self, levels):
    super().__init__()
    levels = torch.tensor(levels, dtype=torch.float32)
    self.register_buffer("_levels_np", levels)
    self.register_buffer("_basis", torch.cat([torch.ones(1), torch.cumprod(levels[:-1], 0)]))

  def forward(self, z):
    reach = (self._levels_np - 1) * (1 - 1e-3) / 2
    level = torch.round(torch.tanh(z + torch.tan(0.5 / reach)) * reach - 0.5)
    half = self._levels_np / 2
    return level / half, ((level + half) * self._basis).sum(-1).long()


class Reader(nn.Module):
  def __init__(self, config: SpeechToUnitConfig):
    super().__init__()
    layer = ConvolutionConfig(width=config.reader_width, taps=config.reader_taps, norm=False)
    widths = [len(config.levels)] + [config.reader_width] * (config.reader_depth - 1)
    self.conv_layers = nn.ModuleList([ConvNormAct(width, layer) for width in widths])
    self.decoder_layers = nn.Sequential(nn.Conv1d(config.reader_width, config.num_phones + 1, 1))

  def forward(self, codes, length):
    x = codes.transpose(1, 2)
    for layer in self.conv_layers:
      x, length = layer(x, length)
    return self.decoder_layers(x).transpose(1, 2)


class TorchSpeechToUnit(nn.Module):
  """All parts by the original's names; even levels only."""

  def __init__(self, config: SpeechToUnitConfig):
    super().__init__()
    self.encoder = Encoder(config)
    self.pre_quant = nn.Linear(config.encoder.width, len(config.levels))
    self.quantizer = Quantizer(config.levels)
    self.decoder = Reader(config)

  @torch.no_grad()
  def forward(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
    """Returns features, encoder's vectors, places before quantising, units and phone logits of one recording [A]."""
    features, frames = self.encoder.wav2spec(torch.tensor(waveform)[None])
    hidden, length = self.encoder(features, frames)
    places = self.pre_quant(hidden)
    codes, units = self.quantizer(places)
    logits = self.decoder(codes, length)
    valid = slice(0, int(length))
    outputs = {"hidden": hidden, "places": places, "units": units, "logits": logits}
    found = {name: output[0, valid].numpy() for name, output in outputs.items()}
    return {"features": features[0, :, : int(frames)].T.numpy(), **found}
