"""The encoder of Whisper (arXiv 2212.04356): half a minute of log-mel frames -> 1500 vectors, 50 a second.

Follows transformers' `WhisperEncoder` and `WhisperFeatureExtractor`. A recording is filled up with silence to thirty
seconds, which attention sees as it sees sound; how many vectors belong to the recording is `num_frames`.

    samples   |--160--|--160--| ...        frame t of the spectra is centred on sample 160 t,
    spectra   t=0     t=1     t=2          the ends reflected; two of them make a vector
"""

import dataclasses
import functools
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from omni_jax.core.arrays import Array, Float, Hidden, Key, Mel, Waveform, typed
from omni_jax.core.errors import UserError
from omni_jax.nn.convolution import Convolution
from omni_jax.nn.feed_forward import gelu
from omni_jax.nn.norm import LayerNorm
from omni_jax.nn.stack import fold, stack
from omni_jax.prepare.recordings import RecordingLayout
from omni_jax.speech.encoder_block import EncoderBlock, EncoderConfig
from omni_jax.speech.mel import mel_filters
from omni_jax.speech.waveform_check import check_recording

SAMPLE_RATE = 16000
HOP = 160  # samples from one spectrum to the next
_WINDOW = 400
_SPECTRA_PER_FRAME = 2
_LOWEST_POWER, _DECADES = 1e-10, 8.0  # what is this far below the loudest power of a recording is one level
_LONGEST_PERIOD = 10_000.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class WhisperConfig:
  """Dimensions of an encoder.

  Attributes:
    num_mels: bins of a spectrum.
    num_positions: vectors that come out, for as long a recording as it can hear.
    encoder: the transformer.
  """

  num_mels: int
  num_positions: int
  encoder: EncoderConfig

  def __post_init__(self):
    if self.encoder.width < 4 or not self.encoder.norm_first or self.num_mels < 1 or self.num_positions < 1:
      raise UserError(
        f"width {self.encoder.width}, norm_first {self.encoder.norm_first}, {self.num_mels} mel bins, "
        f"{self.num_positions} positions",
        where="config of a Whisper encoder",
        rule="blocks with the norm first, a width of 4 or more, and at least one bin and one position",
        remedy="change the one that does not fit",
      )

  @property
  def layout(self) -> RecordingLayout:
    """How recordings are cut for this encoder."""
    return RecordingLayout(hop=HOP * _SPECTRA_PER_FRAME, most=self.num_positions)

  @property
  def samples(self) -> int:
    """Samples of the longest recording, to which shorter ones are filled up."""
    return self.layout.samples

  @property
  def width(self) -> int:
    """Of a vector."""
    return self.encoder.width

  def num_frames(self, samples: Any) -> Any:
    """Returns how many vectors belong to `samples` samples, as Mini-Omni counts them: one for each 20 ms begun."""
    return self.layout.num_frames(samples)

  def make(self, *, key: Key) -> "WhisperEncoder":
    """Returns an encoder with random weights."""
    return WhisperEncoder(self, key=key)


def _size(*, width: int, depth: int, num_heads: int, num_mels: int = 80) -> WhisperConfig:
  encoder = EncoderConfig(
    width=width,
    depth=depth,
    num_heads=num_heads,
    mlp_dim=4 * width,
    norm_eps=1e-5,
    norm_first=True,
    key_bias=False,
  )
  return WhisperConfig(num_mels=num_mels, num_positions=1500, encoder=encoder)


# arXiv 2212.04356, table 1; 128 bins from large-v3 on: config.json and preprocessor_config.json of openai/whisper-*.
# The English-only models have the same encoders, and large-v3-turbo that of large-v3.
WHISPER_SIZES = {
  "tiny": _size(width=384, depth=4, num_heads=6),
  "base": _size(width=512, depth=6, num_heads=8),
  "small": _size(width=768, depth=12, num_heads=12),
  "medium": _size(width=1024, depth=24, num_heads=16),
  "large": _size(width=1280, depth=32, num_heads=20),
  "large-v2": _size(width=1280, depth=32, num_heads=20),
  "large-v3": _size(width=1280, depth=32, num_heads=20, num_mels=128),
  "large-v3-turbo": _size(width=1280, depth=32, num_heads=20, num_mels=128),
}


def whisper_config(name: str) -> WhisperConfig:
  """Returns the config of a published size by its name.

  Raises:
    UserError: there is no such size.
  """
  if name not in WHISPER_SIZES:
    raise UserError(
      f"no Whisper {name!r}",
      where="size of a Whisper encoder",
      rule=f"one of {', '.join(WHISPER_SIZES)}",
      remedy="choose one of these, or make a WhisperConfig",
    )
  return WHISPER_SIZES[name]


class WhisperEncoder(nnx.Module):
  """Log-mel frames -> vectors."""

  def __init__(self, config: WhisperConfig, *, key: Key):
    first, second, blocks = jax.random.split(key, 3)
    width = config.encoder.width
    self.config = config
    self.first = Convolution(config.num_mels, width, taps=3, key=first)
    self.second = Convolution(width, width, taps=3, stride=_SPECTRA_PER_FRAME, key=second)
    # Fixed in the original, but stored in its files.
    self.positions = nnx.Param(jnp.asarray(sinusoids(config.num_positions, width)), axes=(None, "embed"))
    self.blocks = stack(lambda key: EncoderBlock(config.encoder, key=key), depth=config.encoder.depth, key=blocks)
    self.norm = LayerNorm(width=width, eps=config.encoder.norm_eps)

  @typed
  def __call__(self, mel: Mel) -> Float[Array, "B U D"]:
    """Returns one vector for every two frames of `mel` [B, T, M].

    Raises:
      UserError: an odd number of frames, or more than there are positions for. Deviation: fewer are taken too.
    """
    num_frames, odd = divmod(mel.shape[1], _SPECTRA_PER_FRAME)
    if odd or not 0 < num_frames <= self.config.num_positions:
      raise UserError(
        f"{mel.shape[1]} frames",
        where="mel frames for Whisper",
        rule=f"an even number of frames, from 2 to {_SPECTRA_PER_FRAME * self.config.num_positions}",
        remedy="make them by speech.whisper.whisper_mel, which fills a recording up",
      )
    x = gelu(self.second(gelu(self.first(mel))))
    x = x + self.positions[...][:num_frames].astype(x.dtype)
    everything = jnp.ones((1, 1, 1), bool)
    return self.norm(fold(self.blocks, x, everything, remat=self.config.encoder.remat))

  @typed
  def features(self, waveform: Waveform) -> Hidden:
    """Returns the vectors of recordings [B, A], zero past their ends, with those of the silence that fills them up."""
    return self(whisper_mel(waveform, self.config))

  def encode_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the vectors [num_frames(A), D] that belong to each recording [A].

    Raises:
      UserError: no sample, more than one channel, a sample that is no finite number, or a recording that is too long.
    """
    found = []
    for place, waveform in enumerate(waveforms):
      check_recording(waveform, where=f"waveform {place} for Whisper")
      row = np.asarray(waveform, np.float32)[None]
      _check_length(row, self.config)
      whole = np.pad(row, ((0, 0), (0, self.config.samples - row.shape[1])))
      found.append(np.asarray(_jit_features()(self, whole))[0, : self.config.num_frames(row.shape[1])])
    return found


@typed
def whisper_mel(waveform: Waveform, config: WhisperConfig) -> Mel:
  """Returns Whisper's log-mel frames [B, 2 * num_positions, M] of recordings [B, A], filled up with silence.

  Raises:
    UserError: recordings longer than the encoder hears; the original cuts their end off without a word.
  """
  return _log_mel(jnp, waveform, config)


def whisper_mel_numpy(waveform: np.ndarray, config: WhisperConfig) -> np.ndarray:
  """Returns the same as `whisper_mel`, computed by NumPy.

  Raises:
    UserError: recordings that are too long, or samples that are no finite numbers.
  """
  for place, row in enumerate(waveform):
    check_recording(row, where=f"waveform {place} for Whisper")
  return _log_mel(np, np.asarray(waveform, np.float32), config).astype(np.float32)


def sinusoids(length: int, width: int) -> np.ndarray:
  """Returns sines, then cosines, of the positions at periods from 2 pi to 10,000 times that, float32 [length, D]."""
  rates = np.exp(-np.log(_LONGEST_PERIOD) / (width // 2 - 1) * np.arange(width // 2))
  angles = np.arange(length)[:, None] * rates
  return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def _log_mel(xp: ModuleType, waveform: Any, config: WhisperConfig) -> Any:
  _check_length(waveform, config)
  whole = xp.pad(waveform, ((0, 0), (0, config.samples - waveform.shape[1])))
  sides = xp.pad(whole, ((0, 0), (_WINDOW // 2, _WINDOW // 2)), mode="reflect")
  num_frames, num_hops = config.samples // HOP, -(-_WINDOW // HOP)
  sides = xp.pad(sides, ((0, 0), (0, max((num_frames + num_hops - 1) * HOP - sides.shape[1], 0))))
  hops = sides[:, : (num_frames + num_hops - 1) * HOP].reshape(sides.shape[0], -1, HOP)
  cut = xp.concatenate([hops[:, hop : hop + num_frames] for hop in range(num_hops)], axis=-1)[..., :_WINDOW]
  spectrum = xp.fft.rfft(cut * _hann())
  power = xp.square(spectrum.real) + xp.square(spectrum.imag)
  levels = xp.log10(xp.maximum(power @ _filters(config.num_mels), _LOWEST_POWER))
  loudest = levels.max(axis=(1, 2), keepdims=True)
  return (xp.maximum(levels, loudest - _DECADES) + 4.0) / 4.0


@functools.lru_cache
def _hann() -> np.ndarray:
  return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)).astype(np.float32)


def _filters(num_mels: int) -> np.ndarray:
  return mel_filters(sample_rate=SAMPLE_RATE, fft_size=_WINDOW, num_mels=num_mels, low_hz=0.0, high_hz=SAMPLE_RATE / 2)


def _check_length(waveform: Any, config: WhisperConfig) -> None:
  if not 0 < waveform.shape[1] <= config.samples:
    raise UserError(
      f"{waveform.shape[1]} samples",
      where="waveform for Whisper",
      rule=f"one sample or more, and at most {config.samples} ({config.samples / SAMPLE_RATE:g} seconds)",
      remedy="cut the recording into pieces",
    )


def _features(model: WhisperEncoder, waveform: Array) -> Array:
  return model.features(waveform)


@functools.cache
def _jit_features():
  return jax.jit(_features)
