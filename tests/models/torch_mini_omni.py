"""Mini-Omni in torch, from the facts of its code: names of lit_model.pth, and its greedy loops without a cache."""

import math

import torch
from torch import nn
from torch.nn import functional


class Norm(nn.Module):
  def __init__(self, width, eps):
    super().__init__()
    self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

  def forward(self, x):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class Gated(nn.Module):
  def __init__(self, inputs, inner, outputs):
    super().__init__()
    self.fc_1, self.fc_2 = nn.Linear(inputs, inner, bias=False), nn.Linear(inputs, inner, bias=False)
    self.proj = nn.Linear(inner, outputs, bias=False)

  def forward(self, x):
    return self.proj(functional.silu(self.fc_1(x)) * self.fc_2(x))


class SelfAttention(nn.Module):
  """Queries, keys and values of one key-value head, then of the next."""

  def __init__(self, config):
    super().__init__()
    self.config = config
    heads = config.num_heads + 2 * config.num_kv_heads
    self.attn = nn.Linear(config.width, heads * config.head_dim, bias=config.qkv_bias)
    self.proj = nn.Linear(config.num_heads * config.head_dim, config.width, bias=False)

  def forward(self, x):
    config, (batch, length, _) = self.config, x.shape
    shared = config.num_heads // config.num_kv_heads
    fused = self.attn(x).view(batch, length, config.num_kv_heads, shared + 2, config.head_dim).permute(0, 2, 3, 1, 4)
    queries, keys, values = fused[:, :, :-2], fused[:, :, -2:-1], fused[:, :, -1:]
    queries, keys = self.rotated(queries), self.rotated(keys)
    scores = queries @ keys.transpose(-1, -2) / math.sqrt(config.head_dim)
    later = torch.ones(length, length, dtype=torch.bool).triu(1)
    mixed = scores.masked_fill(later, -torch.inf).softmax(-1) @ values
    return self.proj(mixed.permute(0, 3, 1, 2, 4).reshape(batch, length, -1))

  def rotated(self, x):
    half = self.config.head_dim // 2
    rates = self.config.rope_theta ** (-torch.arange(0, half).float() / half)
    angles = torch.arange(x.shape[-2])[:, None] * rates
    first, second = x[..., :half], x[..., half:]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class Block(nn.Module):
  def __init__(self, config):
    super().__init__()
    self.norm_1, self.norm_2 = Norm(config.width, config.norm_eps), Norm(config.width, config.norm_eps)
    self.attn, self.mlp = SelfAttention(config), Gated(config.width, config.mlp_dim, config.width)

  def forward(self, x):
    x = x + self.attn(self.norm_1(x))
    return x + self.mlp(self.norm_2(x))


class TorchMiniOmni(nn.Module):
  def __init__(self, config):
    super().__init__()
    decoder, layout = config.decoder, config.layout
    self.layout, total = layout, layout.text_size + layout.audio_size
    self.whisper_adapter = Gated(config.adapter.inputs, config.adapter.mlp_dim, decoder.width)
    self.lm_head = nn.Linear(decoder.width, total, bias=False)
    parts = {
      "wte": nn.Embedding(total, decoder.width),
      "h": nn.ModuleList(Block(decoder) for _ in range(decoder.depth)),
      "ln_f": Norm(decoder.width, decoder.norm_eps),
    }
    if config.speaker_depth:
      parts["post_adapter"] = nn.ModuleList(Block(decoder) for _ in range(config.speaker_depth))
      parts["post_adapter_audio_ln"] = Norm(decoder.width, decoder.norm_eps)
      parts["post_adapter_audio_lm_head"] = nn.Linear(decoder.width, layout.audio_size, bias=False)
    self.transformer = nn.ModuleDict(parts)
    if decoder.tied:
      self.lm_head.weight = self.transformer["wte"].weight

  def forward(self, ids, features=None):
    """Returns logits [B, layers, T, V] of codes and [B, T, V] of text of ids [B, rows, T]."""
    layout, parts = self.layout, self.transformer
    embedded = parts["wte"](ids)
    if features is not None:
      embedded[:, :-1, 1 : features.shape[1] + 1] = self.whisper_adapter(features)[:, None]
    x = embedded.mean(1)
    for block in parts["h"]:
      x = block(x)
    whole = self.lm_head(parts["ln_f"](x))
    codes = whole[..., layout.text_size :]
    if "post_adapter" in parts:
      for block in parts["post_adapter"]:
        x = block(x)
      codes = parts["post_adapter_audio_lm_head"](parts["post_adapter_audio_ln"](x))
    codes = codes.unflatten(-1, (layout.num_layers, -1)).transpose(1, 2)
    return codes, whole[..., : layout.text_size]

  @torch.no_grad()
  def answer(self, prompt, features=None, *, speaks, columns):
    """Returns entries [rows, S]: the original's greedy loops; the column in which the last layer ends is left out."""
    layout, ids, written, text_over = self.layout, torch.as_tensor(prompt)[None], [], False
    for _ in range(columns):
      codes, text = self(ids, features)
      chosen, word = codes[0, :, -1].argmax(-1), int(text[0, -1].argmax())
      if text_over:
        word = layout.text_row.pad
      if not speaks:
        chosen = torch.full_like(chosen, layout.audio_rows[0].pad)
      if written and (int(chosen[-1]) == layout.audio_rows[0].end if speaks else word == layout.text_row.end):
        break
      text_over |= word == layout.text_row.end
      written.append(torch.cat([chosen, torch.tensor([word])]))
      ids = torch.cat([ids, self.shifted(written[-1])[None, :, None]], -1)
    return torch.stack(written, 1).numpy()

  @torch.no_grad()
  def answer_in_pair(self, prompts, features, *, columns):
    """Returns entries [rows, S] of batch-parallel decoding: the codes of the first prompt, the text of the second."""
    layout, ids, written, text_over = self.layout, torch.as_tensor(prompts), [], False
    both = features.expand(2, -1, -1)
    for _ in range(columns):
      codes, text = self(ids, both)
      chosen, word = codes[0, :, -1].argmax(-1), int(text[1, -1].argmax())
      if text_over:
        word = layout.text_row.pad
      if written and int(chosen[-1]) == layout.audio_rows[0].end:
        break
      text_over |= word == layout.text_row.end
      silent = torch.full_like(chosen, layout.audio_rows[0].pad)
      columns_of_both = [torch.cat([part, torch.tensor([word])]) for part in (chosen, silent)]
      written.append(columns_of_both[0])
      ids = torch.cat([ids, torch.stack([self.shifted(column) for column in columns_of_both])[..., None]], -1)
    return torch.stack(written, 1).numpy()

  def shifted(self, column):
    return column + torch.tensor([row.first for row in self.layout.rows])
