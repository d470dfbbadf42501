"""EMOVA's speech-to-unit model (SPIRAL-FSQ-CTC, `40ms_multilingual_8888`): waveform -> 25 units a second out of 4096.

Follows `VQCTCFinetuneModel` of the EMOVA speech tokenizer (arXiv 2409.18042, appendix B.1):

    waveform -> frames (`spiral_features`) -> SPIRAL2 -> 4 numbers -> 8 levels each -> unit
                                                                          `-> phone reader: CTC, in training

The encoder sees a whole recording, so units come at its end. Long recordings are read in windows that overlap
(`long_recordings`).

Deviation: the original cuts long recordings without overlap, hands every piece the length of the whole and keeps units
of the padding; here `ceil(samples / 640)` units come out, whatever the length.
"""

import dataclasses

import jax
from flax import nnx

from omni_jax.core.arrays import Array, Codes, Float, Int, Key, Mel, Units, Waveform, typed
from omni_jax.core.config import added
from omni_jax.nn.dropout import drop, keys_of
from omni_jax.nn.linear import Linear
from omni_jax.speech.long_recordings import Spans
from omni_jax.speech.mel import MelConfig
from omni_jax.speech.quantizers import Quantizer
from omni_jax.speech.spiral import SPIRAL2_BASE_40MS, ConvolutionConfig, NormedConvolution, SpiralConfig
from omni_jax.speech.spiral_features import EMOVA_MEL, FEWEST_SAMPLES, FRAME_MULTIPLE, spiral_features
from omni_jax.speech.unit_reader import PhoneUnitReader


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechToUnitConfig:
  """Sizes of a speech-to-unit model; the CTC blank is phone `num_phones`.

  Attributes:
    encoder: waveform's frames to vectors.
    mel: analysis of the waveform.
    levels: of each code dimension.
    num_phones: classes of the reader, without the blank.
    reader_width, reader_depth, reader_taps: its convolutions.
    whole_seconds: recordings up to this long are read whole, as the original does.
    context_seconds: of longer ones, what a window sees on either side of what is kept of it.
    probe: in training phones are also read before the bottleneck, by a matrix that nothing else reads: what an encoder
      needs that starts from nothing (`train.spiral_losses.PhoneLoss.probe`). The released model has none.
  """

  encoder: SpiralConfig
  levels: tuple[int, ...]
  num_phones: int
  reader_width: int
  reader_depth: int
  mel: MelConfig = EMOVA_MEL
  reader_taps: int = 5
  whole_seconds: float = 60.0
  context_seconds: float = 5.0
  probe: bool = added(False)

  def __post_init__(self):
    assert self.encoder.num_mels == self.mel.num_mels, f"{self.mel.num_mels} bins, {self.encoder.num_mels} wanted"
    assert FRAME_MULTIPLE % self.encoder.stride == 0, f"stride {self.encoder.stride} does not divide {FRAME_MULTIPLE}"
    assert self.whole_seconds > 2 * self.context_seconds, "nothing of a window would be kept"

  @property
  def quantizer(self) -> Quantizer:
    """The quantiser of the codes."""
    return Quantizer(levels=self.levels)

  def make(self, *, key: Key) -> "SpeechToUnit":
    """Returns a model with random weights."""
    return SpeechToUnit(self, key=key)


# The released model: 94.7 million parameters.
EMOVA_SPEECH_TO_UNIT = SpeechToUnitConfig(
  encoder=SPIRAL2_BASE_40MS, levels=(8, 8, 8, 8), num_phones=240, reader_width=512, reader_depth=4
)


class PhoneReader(nnx.Module):
  """Codes -> phone logits, the blank last; only training and the phone error rate need it."""

  def __init__(self, config: SpeechToUnitConfig, *, key: Key):
    keys = jax.random.split(key, config.reader_depth + 1)
    layer = ConvolutionConfig(width=config.reader_width, taps=config.reader_taps, norm=False)
    widths = (len(config.levels), *(config.reader_width,) * config.reader_depth)
    self.dropout = config.encoder.dropout
    self.layers = nnx.List(
      [NormedConvolution(before, layer, key=own) for before, own in zip(widths, keys[:-1], strict=False)]
    )
    self.head = Linear(config.reader_width, config.num_phones + 1, axes=("embed", None), bias=True, key=keys[-1])

  @typed
  def __call__(self, codes: Codes, num_units: Int[Array, "B"], *, key: Key | None = None) -> Float[Array, "B U K"]:
    """Returns phone logits; with a key, with dropout."""
    keys = keys_of(key, len(self.layers))
    x = codes
    for layer, own in zip(self.layers, keys, strict=True):
      x, _ = layer(x, num_units)
      x = drop(x, self.dropout, key=own)
    return self.head(x)


class SpeechToUnit(PhoneUnitReader):
  """Waveform -> units; satisfies `interface.PhoneReader`."""

  together_seconds = 6.0  # attention is quadratic
  fewest_samples = FEWEST_SAMPLES

  def __init__(self, config: SpeechToUnitConfig, *, key: Key):
    encoder, bottleneck, reader = jax.random.split(key, 3)
    self.config = config
    self.encoder = config.encoder.make(key=encoder)
    width = config.encoder.width
    self.bottleneck = Linear(width, len(config.levels), axes=("embed", None), bias=True, key=bottleneck)
    self.reader = PhoneReader(config, key=reader)
    # A key of its own, so that the other weights are those of a model without it.
    self.probe = _probe(config, key=jax.random.fold_in(key, 3)) if config.probe else None

  @property
  def sample_rate(self) -> int:
    """Samples per second of the waveforms it takes."""
    return self.config.mel.sample_rate

  @property
  def hop(self) -> int:
    """Samples that one unit covers."""
    return self.config.mel.hop_samples * self.config.encoder.stride

  @property
  def codebook_size(self) -> int:
    """The number of different units."""
    return self.config.quantizer.codebook_size

  @typed
  def features(self, waveform: Waveform, samples: Int[Array, "B"], *, key: Key | None = None) -> Mel:
    """Returns the frames of each row; with a key, dithered for training."""
    return spiral_features(waveform, samples, self.config.mel, key=key)

  @typed
  def hidden(self, features: Mel, num_frames: Int[Array, "B"], *, key: Key | None = None) -> Float[Array, "B U D"]:
    """Returns the encoder's vector of each unit frame; with a key, with dropout."""
    return self.encoder(features, num_frames, key=key)

  @typed
  def places(self, hidden: Float[Array, "B U D"]) -> Codes:
    """Returns what is quantised, before it is bounded."""
    return self.bottleneck(hidden)

  @typed
  def codes(self, waveform: Waveform, samples: Int[Array, "B"]) -> Codes:
    """Returns the quantised code of each unit frame; those at and after `num_units(samples)` mean nothing."""
    hidden = self.hidden(self.features(waveform, samples), self.config.mel.num_frames(samples))
    return self.config.quantizer.quantise(self.places(hidden))

  @typed
  def units(self, waveform: Waveform, samples: Int[Array, "B"]) -> Units:
    """Returns the unit of each frame; those at and after `num_units(samples)` mean nothing."""
    return self.config.quantizer.codes_to_units(self.codes(waveform, samples))

  def phone_logits(self, waveform: Waveform, samples: Int[Array, "B"]) -> Float[Array, "B U K"]:
    """Returns the logits of phones, the blank last, at each unit frame."""
    return self.reader(self.codes(waveform, samples), self.num_units(samples))

  @property
  def spans(self) -> Spans:
    """How long recordings are cut, as the config says."""
    return Spans.of_seconds(
      hop=self.hop,
      sample_rate=self.sample_rate,
      whole_seconds=self.config.whole_seconds,
      context_seconds=self.config.context_seconds,
    )


def _probe(config: SpeechToUnitConfig, *, key: Key) -> Linear:
  return Linear(config.encoder.width, config.num_phones + 1, axes=("embed", None), bias=True, key=key)
