"""Units by k-means: waveform -> HuBERT's frames of one layer -> the nearest of many centres, 50 a second.

The speech tokenizer of SpeechGPT (arXiv 2305.11000; mHuBERT base, layer 11, 1000 classes) and of textless speech
translation before it. As in the original, a long recording is read in pieces.

HuBERT has no frame for the last samples: a recording of A samples gives (A - 80) // 320 of them. Deviation: the last
unit of a piece is repeated until the units cover it, ceil(A / 320) of them, and a recording shorter than one window is
filled up with silence to a window. Reduced, the units are the original's.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.core.arrays import Array, Hidden, Int, Key, Units, Waveform, typed
from omni_jax.core.errors import UserError
from omni_jax.nn.parameter import weight
from omni_jax.speech.grouping import map_waveforms
from omni_jax.speech.hubert import MHUBERT_BASE, HubertConfig, check_layer
from omni_jax.speech.kmeans import nearest
from omni_jax.speech.unit_reader import FRAMES_A_SECOND, UnitReader
from omni_jax.speech.waveform_check import check_recording

# Attention holds a score for every pair of frames: what is longer is read one piece at a time.
_TOGETHER_SECONDS = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class KMeansTokenizerConfig:
  """What reads, from which layer, and how many classes there are.

  Attributes:
    hubert: what reads.
    layer: blocks that run, as fairseq counts its layers.
    num_classes: number of centres and of units.
    longest_seconds: of a piece that a longer recording is read in.
  """

  hubert: HubertConfig
  layer: int
  num_classes: int
  longest_seconds: float

  def __post_init__(self):
    check_layer(self.layer, depth=self.hubert.encoder.depth)
    rate = self.hubert.sample_rate // self.hubert.hop_samples
    if FRAMES_A_SECOND % rate or self.piece_samples < self.hubert.window_samples or self.num_classes < 1:
      raise UserError(
        f"{rate} units a second, pieces of {self.longest_seconds} seconds, {self.num_classes} classes",
        where="config of a k-means tokenizer",
        rule="a unit lasts whole frames of 10 ms, a piece holds a window, and there is a class",
        remedy="change the one that does not fit",
      )

  @property
  def piece_samples(self) -> int:
    """Samples of a piece, whole units."""
    return int(self.longest_seconds * self.hubert.sample_rate) // self.hubert.hop_samples * self.hubert.hop_samples

  def make(self, *, key: Key) -> "KMeansTokenizer":
    """Returns a tokenizer with random weights and centres."""
    return KMeansTokenizer(self, key=key)


# SpeechGPT's speech2unit.py: pieces of 1,600,000 samples.
SPEECH_GPT_TOKENIZER = KMeansTokenizerConfig(hubert=MHUBERT_BASE, layer=11, num_classes=1000, longest_seconds=100.0)


class KMeansTokenizer(UnitReader):
  """Waveform -> units; satisfies `interface.SpeechTokenizer`."""

  def __init__(self, config: KMeansTokenizerConfig, *, key: Key):
    hubert, centres = jax.random.split(key)
    self.config = config
    self.hubert = config.hubert.make(key=hubert)
    self.centres = weight(centres, (config.num_classes, config.hubert.encoder.width), axes=(None, None), fan_in=1)

  @property
  def sample_rate(self) -> int:
    """Samples per second of the waveforms it takes."""
    return self.config.hubert.sample_rate

  @property
  def hop(self) -> int:
    """Samples that one unit covers."""
    return self.config.hubert.hop_samples

  @property
  def codebook_size(self) -> int:
    """The number of different units."""
    return self.config.num_classes

  def num_frames(self, samples: Array) -> Array:
    """Returns the frames that HuBERT has for recordings of `samples` samples."""
    return self.config.hubert.num_frames(samples)

  @typed
  def frames(self, waveform: Waveform, samples: Int[Array, "B"]) -> Hidden:
    """Returns what is classified: HuBERT's frames of the layer."""
    return self.hubert.features(waveform, samples, layer=self.config.layer)

  @typed
  def units(self, waveform: Waveform, samples: Int[Array, "B"]) -> Units:
    """Returns the class of each frame; those at and after `num_frames(samples)` mean nothing."""
    return nearest(self.frames(waveform, samples), self.centres[...])

  def encode_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the units of each waveform, equal to those of `encode`."""
    where = "waveform {} for the k-means tokenizer"
    checked = [check_recording(one, where=where.format(place)) for place, one in enumerate(waveforms)]
    pieces = [(row, piece) for row, waveform in enumerate(checked) for piece in self._pieces(waveform)]
    run = functools.partial(_jit_units(), self)
    cut = [piece for _, piece in pieces]
    found = map_waveforms(run, cut, sample_rate=self.sample_rate, together_seconds=_TOGETHER_SECONDS)
    units: list[list[np.ndarray]] = [[] for _ in waveforms]
    for (row, piece), (frames, number) in zip(pieces, found, strict=True):
      units[row].append(self._covering(frames[:number], len(piece)))
    return [np.concatenate(parts) for parts in units]

  def _pieces(self, waveform: np.ndarray) -> list[np.ndarray]:
    size = self.config.piece_samples
    return [waveform[begin : begin + size] for begin in range(0, len(waveform), size)]

  def _covering(self, units: np.ndarray, samples: int) -> np.ndarray:
    """Returns the units of a piece with the last one repeated to its end."""
    return np.pad(units, (0, -(-samples // self.hop) - len(units)), mode="edge")


def _units(model: KMeansTokenizer, waveform: Array, samples: Array) -> tuple[Array, Array]:
  samples = jnp.maximum(samples, model.config.hubert.window_samples)  # rows are zero past their end, and long enough
  return model.units(waveform, samples), model.num_frames(samples)


@functools.cache
def _jit_units():
  return jax.jit(_units)
