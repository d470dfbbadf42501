"""Waveform <-> codes at several rates: SNAC (Siuzdak et al., arXiv 2410.14411), the voice of Mini-Omni.

    waveform --encoder, hop 512--> latents --quantisers, of means of 4, 2, 1 latents, each of what is left--> codes
    codes --embedded, repeated, summed--> latents --decoder: up, noise, residual units--> waveform

Reference: the `snac` package (MIT). A frame here is one step of the slowest quantiser, 2,048 samples. Its codes stand
in one row, each slow code before the faster ones it covers, which is Mini-Omni's order:

    row of a frame   C0[f]  C1[2f]  C2[4f]  C2[4f+1]  C1[2f+1]  C2[4f+2]  C2[4f+3]

Deviation: no attention (`attn_window_size` null); noise is a table read at the absolute sample, so that a stream equals
the whole; places outside the utterance are zeroed in front of every convolution, so that shapes can be rounded up.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int

from omni_jax.core.arrays import Array, Key, Waveform, typed
from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.speech.interface import Context, Manner
from omni_jax.speech.snac_layers import Decoder, Encoder, Quantised, Quantizer, reach, samples_ahead
from omni_jax.speech.streams import Framed, Stream
from omni_jax.speech.timing import SpeakingTimed
from omni_jax.speech.waveform_check import check_recording
from omni_jax.speech.windows import WindowStream, run_whole

_LARGEST_WINDOW = 256  # frames at once, 22 s
_STREAM_FRAMES = 4  # of a stream's chunk by default, as Mini-Omni's

Frames = Int[Array, "B F Q"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SNACConfig:
  """Sizes of the codec.

  Attributes:
    sample_rate: Hz.
    encoder_width: channels at the rate of samples; each stage doubles them.
    encoder_rates: inputs for one output of each stage; their product is the hop of a latent.
    decoder_width: channels at the rate of latents; each stage halves them.
    decoder_rates: outputs for one input of each stage, of the same product.
    codebook_size: codes of each quantiser.
    code_width: numbers of a code.
    strides: latents of one code of each quantiser, the slowest first.
    depthwise: whether the long kernels see one channel each.
    noise: whether the decoder adds noise that it shapes itself.
    normed: whether kernels are stored as length and direction, for training, or folded.
  """

  sample_rate: int
  encoder_width: int
  encoder_rates: tuple[int, ...]
  decoder_width: int
  decoder_rates: tuple[int, ...]
  codebook_size: int
  code_width: int
  strides: tuple[int, ...]
  depthwise: bool
  noise: bool
  normed: bool = True

  def __post_init__(self):
    assert math.prod(self.encoder_rates) == math.prod(self.decoder_rates), "encoder and decoder have one hop"
    slower, faster = self.strides[:-1], self.strides[1:]
    assert all(slow % fast == 0 for slow, fast in zip(slower, faster, strict=True)), (
      "a slow code covers whole fast ones"
    )

  @property
  def latent_width(self) -> int:
    """Channels of a latent."""
    return self.encoder_width << len(self.encoder_rates)

  @property
  def hop(self) -> int:
    """Samples of a frame."""
    return math.prod(self.encoder_rates) * self.strides[0]

  @property
  def columns(self) -> tuple[tuple[int, int], ...]:
    """For each code of a frame its quantiser and its place among those of the quantiser."""
    return tuple(_below(self.strides, level=0, place=0))

  @property
  def decoder_context(self) -> int:
    """Frames on each side that the samples of a frame depend on."""
    return -(-reach(self.decoder_rates, up=True) // self.strides[0])

  @property
  def decoder_ahead(self) -> int:
    """Samples in front of a frame that depend on it: less than those of whole frames."""
    return samples_ahead(self.decoder_rates)

  @property
  def encoder_context(self) -> int:
    """Frames on each side that the codes of a frame depend on."""
    return -(-reach(self.encoder_rates, up=False) // self.strides[0])

  @property
  def inference(self) -> "SNACConfig":
    """The same codec with every kernel folded into one array, for `nn.weight_norm.fold_model`."""
    return dataclasses.replace(self, normed=False)

  def make(self, *, key: Key) -> "SNAC":
    """Returns a new codec."""
    return SNAC(self, key=key)


# config.json of hubertsiuzdak/snac_24khz.
SNAC_24KHZ = SNACConfig(
  sample_rate=24000,
  encoder_width=48,
  encoder_rates=(2, 4, 8, 8),
  decoder_width=1024,
  decoder_rates=(8, 8, 4, 2),
  codebook_size=4096,
  code_width=8,
  strides=(4, 2, 1),
  depthwise=True,
  noise=True,
)


class Copied(NamedTuple):
  """A waveform through the codec, its codes, and how far latents are from their codes, both ways."""

  waveform: Waveform
  codes: Frames
  codebook: Float[Array, ""]  # of the codes from the latents, which stand still
  commitment: Float[Array, ""]  # of the latents from their codes, which stand still


class SNAC(SpeakingTimed, nnx.Module):
  """The codec; `encode`, `decode` and `stream` are the interface, `copy` is for training."""

  def __init__(self, config: SNACConfig, *, key: Key):
    self.config = config
    keys = jax.random.split(key, 2 + len(config.strides))
    width, shared = config.latent_width, {"depthwise": config.depthwise, "normed": config.normed}
    self.encoder = Encoder(config.encoder_width, config.encoder_rates, key=keys[0], **shared)
    self.quantizers = nnx.List(
      Quantizer(width, config.code_width, codes=config.codebook_size, stride=stride, normed=config.normed, key=each)
      for stride, each in zip(config.strides, keys[2:], strict=True)
    )
    self.decoder = Decoder(
      width, config.decoder_width, rates=config.decoder_rates, noise=config.noise, key=keys[1], **shared
    )

  @property
  def sample_rate(self) -> int:
    """Samples per second."""
    return self.config.sample_rate

  @property
  def hop(self) -> int:
    """Samples of a frame."""
    return self.config.hop

  @property
  def code_rates(self) -> tuple[float, ...]:
    """Codes per second of each quantiser, the slowest first: 11.72, 23.44 and 46.88 in the released codec."""
    strides = self.config.strides
    return tuple(self.frame_rate * (strides[0] // stride) for stride in strides)

  @property
  def context(self) -> Context:
    """What the sound of a frame of codes depends on."""
    around = self.config.decoder_context
    return Context(frames_before=around, frames_after=around)

  @property
  def num_codebooks(self) -> int:
    """Codes of a frame: one of the slowest quantiser and all that it covers."""
    return len(self.config.columns)

  @property
  def codebook_size(self) -> int:
    """The number of different codes of each quantiser."""
    return self.config.codebook_size

  @typed
  def read(self, waveform: Waveform, valid: Float[Array, "B F"] | None = None) -> Frames:
    """Returns the codes of whole frames of sound; `valid` is 1 on frames of the recording."""
    return self._quantise(waveform, self._latent_valid(valid)).codes

  @typed
  def speak(self, codes: Frames, valid: Float[Array, "B F"] | None = None, *, first: Int[Array, "B"]) -> Waveform:
    """Returns `hop` samples for each frame; `first` is the number of the first frame, which the noise follows."""
    latents = jnp.stack(
      [quantizer.latents(self._level(codes, level)) for level, quantizer in enumerate(self.quantizers)]
    ).sum(0)
    return self.decoder(latents, self._latent_valid(valid), first=first * self.config.strides[0])

  @typed
  def copy(self, waveform: Waveform, *, first: Int[Array, "B"]) -> Copied:
    """Returns whole frames of sound through the codec; gradients pass the quantisers as if they were not there."""
    found = self._quantise(waveform, None)
    made = self.decoder(found.latents, None, first=first * self.config.strides[0])
    return Copied(made, found.codes, found.codebook, found.commitment)

  def encode(self, waveform: np.ndarray) -> np.ndarray:
    """Returns codes int32 [F, Q] of a float waveform [A]; F = ceil(A / hop), the last frame filled with silence.

    Raises:
      UserError: not one row of finite samples, or none.
    """
    return self.encode_batch([waveform])[0]

  def _encode(self, waveform: np.ndarray) -> np.ndarray:
    frames = np.pad(waveform, (0, -len(waveform) % self.hop)).reshape(-1, self.hop)
    return run_whole(self._read_window, frames, hop=1, context=self.config.encoder_context, largest=_LARGEST_WINDOW)

  def encode_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the codes of each waveform, equal to those of `encode`."""
    checked = [check_recording(one, where=f"waveform {place} for SNAC") for place, one in enumerate(waveforms)]
    return [self._encode(waveform) for waveform in checked]

  def encode_stream(self, *, chunk_frames: int = _STREAM_FRAMES) -> Stream:
    """Returns an empty stream from samples to codes; some come for every `chunk_frames` frames with their context.

    Raises:
      UserError: chunks without frames.
    """
    context = self.config.encoder_context
    read = WindowStream(self._read_window, hop=1, before=context, after=context, chunk=chunk_frames)
    return Stream(
      [Framed(self.hop), read],
      check=functools.partial(check_recording, where="samples for SNAC", fewest=0),
      empty=np.zeros((0, self.num_codebooks), np.int32),
      at_once=_LARGEST_WINDOW * self.hop,
    )

  def time_batch(self, waveforms: Sequence[np.ndarray], units: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Raises a UserError: a frame of codes is no unit that lasts for whole frames of 10 ms."""
    del waveforms, units
    raise UserError(
      f"frames of {self.hop} samples at {self.sample_rate} Hz, {self.num_codebooks} codes each",
      where="SNAC",
      rule="durations are told of reduced units, which last whole frames of 10 ms",
      remedy="train a vocoder of units on another tokenizer; SNAC speaks its codes itself",
    )

  def decode(self, units: np.ndarray, style: Manner = None) -> np.ndarray:
    """Returns the waveform, float32 [F * hop], of codes [F, Q]; they hold the voice, so a style is not heard.

    Raises:
      UserError: no frames, rows of another length, a code outside the codebook, a style by name.
    """
    _check_manner(style)
    codes = self._checked(units)
    if not len(codes):
      raise UserError("no codes", where="SNAC", rule="there is something to say", remedy="give at least one frame")
    context = self.config.decoder_context
    return run_whole(self._speak_window, codes, hop=self.hop, context=context, largest=_LARGEST_WINDOW)

  def seconds(self, units: Sequence[np.ndarray], styles: Sequence[Style]) -> list[float]:
    """Returns how long each row of frames [F, Q] lasts; styles change nothing."""
    del styles
    return [len(self._checked(codes)) * self.hop / self.sample_rate for codes in units]

  def stream(self, style: Manner = None, *, chunk_frames: int = _STREAM_FRAMES) -> Stream:
    """Returns an empty stream; a piece comes for every `chunk_frames` frames, once their context is known.

    Pieces end where the last frames that are known can change nothing more, 2.3 frames before their end at 24 kHz.

    Raises:
      UserError: chunks without frames, a style by name.
    """
    _check_manner(style)
    context = self.config.decoder_context
    return Stream(
      [
        WindowStream(
          self._speak_window,
          hop=self.hop,
          before=context,
          after=context,
          chunk=chunk_frames,
          ahead=self.config.decoder_ahead,
        )
      ],
      check=self._checked,
      empty=np.zeros(0, np.float32),
    )

  def by_quantizer(self, codes: np.ndarray) -> list[np.ndarray]:
    """Returns the codes [F, Q] as the `snac` package has them: a row for each quantiser, the slowest first."""
    return [np.asarray(self._level(self._checked(codes)[None], level))[0] for level in range(len(self.quantizers))]

  def _quantise(self, waveform: Waveform, valid: Array | None) -> Quantised:
    left = latents = self.encoder(waveform, valid)
    columns, codebook, commitment = {}, jnp.zeros(()), jnp.zeros(())
    for level, quantizer in enumerate(self.quantizers):
      one = quantizer(left)
      left = left - one.latents
      codebook, commitment = codebook + one.codebook, commitment + one.commitment
      columns[level] = one.codes.reshape(left.shape[0], -1, self.config.strides[0] // quantizer.stride)
    codes = jnp.stack([columns[level][:, :, place] for level, place in self.config.columns], axis=-1)
    return Quantised(codes, latents - left, codebook, commitment)

  def _level(self, codes: Any, level: int) -> Any:
    own = [column for column, (other, _) in enumerate(self.config.columns) if other == level]
    return codes[:, :, np.array(own)].reshape(codes.shape[0], -1)

  def _latent_valid(self, valid: Array | None) -> Array | None:
    return None if valid is None else jnp.repeat(valid, self.config.strides[0], axis=1)

  def _read_window(self, frames: np.ndarray, valid: np.ndarray, first: np.ndarray) -> np.ndarray:
    del first
    return _compiled().read(self, frames.reshape(1, -1), valid)

  def _speak_window(self, codes: np.ndarray, valid: np.ndarray, first: np.ndarray) -> np.ndarray:
    return _compiled().speak(self, codes, valid, first)

  def _checked(self, codes: np.ndarray) -> np.ndarray:
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.shape[1] != self.num_codebooks or not np.issubdtype(codes.dtype, np.integer):
      raise UserError(
        f"codes of shape {codes.shape} and type {codes.dtype}",
        where="SNAC",
        rule=f"codes are rows of {self.num_codebooks} whole numbers, one row for each frame",
        remedy="pass what `encode` returned, or as many token rows as the codec has codes in a frame",
      )
    outside = codes[(codes < 0) | (codes >= self.codebook_size)]
    if outside.size:
      raise UserError(
        f"code {int(outside[0])}",
        where="SNAC",
        rule=f"codes lie within 0..{self.codebook_size - 1}",
        remedy="leave out the ids of padding and of ends before decoding",
      )
    return codes.astype(np.int32)


class _Compiled(NamedTuple):
  read: Any
  speak: Any


@functools.cache
def _compiled() -> _Compiled:
  def read(network, waveform, valid):
    return network.read(waveform, valid)

  def speak(network, codes, valid, first):
    return network.speak(codes, valid, first=first)

  return _Compiled(jax.jit(read), jax.jit(speak))


def _check_manner(style: Manner) -> None:
  if isinstance(style, str):
    raise UserError(
      f"style {style!r}", where="SNAC", rule="the codes hold the voice and its style", remedy="give no style"
    )


def _below(strides: tuple[int, ...], *, level: int, place: int) -> list[tuple[int, int]]:
  """Returns a code and all that it covers, in the order of a row."""
  found = [(level, place)]
  if level + 1 < len(strides):
    children = strides[level] // strides[level + 1]
    for child in range(place * children, (place + 1) * children):
      found += _below(strides, level=level + 1, place=child)
  return found
