import dataclasses

import jax
import numpy as np
import pytest

from omni_jax.batches.pictures import TileSize
from omni_jax.batches.sources import ImageSize
from omni_jax.core.styles import ALL_STYLES, Style
from omni_jax.models.decoder import DecoderConfig
from omni_jax.models.downsampling import ConvolutionMixer, DownsamplingConfig
from omni_jax.models.emova import EmovaConfig
from omni_jax.models.fixed_vision_encoder import CLIP_L_336
from omni_jax.models.projectors import ProjectorConfig
from omni_jax.models.vision_encoder import VisionConfig
from omni_jax.prepare.tiles import GRIDS_OF_FOUR
from omni_jax.speech.interface import Context
from omni_jax.speech.streams import whole_recording
from omni_jax.tokens.answers import NativeLayout
from omni_jax.tokens.dialogue import Dialogue
from omni_jax.tokens.templates import TINY
from omni_jax.tokens.text import train_text_tokenizer
from omni_jax.tokens.units import reduce_units
from omni_jax.tokens.vocabulary import make_vocabulary

CODEBOOK = 64


@pytest.fixture(scope="session")
def dialogue(tmp_path_factory) -> Dialogue:
  folder = tmp_path_factory.mktemp("work") / "text"
  texts = [f"the {a} is {b}" for a in ("dog", "star", "house") for b in ("old", "new", "red")]
  tokenizer = train_text_tokenizer(texts * 2, path=folder / "tokenizer.model", num_pieces=300)
  vocabulary = make_vocabulary(tokenizer, text_size=320, codebook_size=CODEBOOK)
  vocabulary.save(folder / "vocabulary.json")
  layout = NativeLayout(text_chunk=2, unit_chunk=3)
  return Dialogue(vocabulary=vocabulary, tokenizer=tokenizer, template=TINY, layout=layout)


@pytest.fixture(scope="session")
def config(dialogue) -> EmovaConfig:
  vocabulary = dialogue.vocabulary
  return EmovaConfig(
    decoder=DecoderConfig(
      vocab_size=vocabulary.text_size,
      extra_vocab_size=vocabulary.extra_size,
      width=32,
      depth=2,
      num_heads=2,
      num_kv_heads=1,
      head_dim=16,
      mlp_dim=48,
      rope_theta=1e4,
      norm_eps=1e-6,
      qkv_bias=True,
      tied=True,
    ),
    vision=VisionConfig(patch=4, temporal_patch=1, merge=2, width=32, depth=1, num_heads=2, mlp_dim=48, out_width=32),
    projector=ProjectorConfig(inputs=32, outputs=32),
    image_token=vocabulary.control("image"),
  )


@pytest.fixture(scope="session")
def tiled_config(config) -> EmovaConfig:
  """The same with an image tower of one resolution, a C-Abstractor and newlines."""
  vision = dataclasses.replace(
    CLIP_L_336, side=16, patch=4, width=24, depth=2, features_after=1, num_heads=2, mlp_dim=32, chunk=2
  )
  projector = DownsamplingConfig(inputs=24, outputs=32, side=4, out_side=2, mixer=ConvolutionMixer(width=16, depth=1))
  return dataclasses.replace(config, vision=vision, projector=projector, newline=True)


def louder(config):
  """Returns a random model with larger tables, so that its choices differ between positions and rows."""
  model = jax.jit(lambda key: config.make(key=key))(jax.random.key(3))
  model.decoder.embed.text[...] = model.decoder.embed.text[...] * 30
  model.decoder.embed.extra[...] = model.decoder.embed.extra[...] * 30
  return model


@pytest.fixture(scope="session")
def model(config):
  return louder(config)


@pytest.fixture(scope="session")
def tiled_model(tiled_config):
  return louder(tiled_config)


@pytest.fixture(scope="session")
def tiles(tiled_config) -> TileSize:
  return TileSize(layout=tiled_config.image_layout, grids=GRIDS_OF_FOUR)


@pytest.fixture(scope="session")
def images() -> ImageSize:
  return ImageSize(patch=4, merge=2, min_pixels=64, max_pixels=1024)


class FakeTokenizer:
  """Units from the loudness of each 40 ms."""

  sample_rate, frame_rate, hop, num_codebooks, codebook_size = 16_000, 25.0, 640, 1, CODEBOOK

  def encode(self, waveform: np.ndarray) -> np.ndarray:
    frames = waveform[: len(waveform) // 640 * 640].reshape(-1, 640)
    return (np.abs(frames).mean(axis=1) * 1e3).astype(np.int32) % CODEBOOK

  def encode_batch(self, waveforms) -> list[np.ndarray]:
    return [self.encode(waveform) for waveform in waveforms]

  def encode_stream(self):
    return whole_recording(self.encode)

  def time_batch(self, waveforms, units) -> list[np.ndarray]:
    return [reduce_units(own)[1] * 4 for own in units]


class FakeStyleEncoder:
  """Hears one of the styles by length."""

  def hear(self, waveform: np.ndarray) -> Style:
    return ALL_STYLES[len(waveform) % 24]

  def hear_batch(self, waveforms) -> list[Style]:
    return [self.hear(waveform) for waveform in waveforms]


class FakeVocoder:
  """A hundred samples a unit, one unit of look-ahead."""

  sample_rate, frame_rate, hop, num_codebooks, codebook_size = 16_000, 160.0, 100, 1, CODEBOOK
  context, lookahead_seconds = Context(units_after=1), 1 / 160

  def decode(self, units: np.ndarray, style: Style) -> np.ndarray:
    return np.repeat(units, 100).astype(np.float32) / CODEBOOK + ALL_STYLES.index(style)

  def seconds(self, units, styles) -> list[float]:
    return [len(row) * 100 / 16_000 for row in units]

  def stream(self, style: Style) -> "FakeStream":
    return FakeStream(self, style)


class FakeStream:
  def __init__(self, vocoder: FakeVocoder, style: Style):
    self._vocoder, self._style, self._held = vocoder, style, np.zeros(0, np.int32)

  def push(self, units: np.ndarray) -> np.ndarray:
    held = np.concatenate([self._held, units])
    self._held = held[-1:]
    return self._vocoder.decode(held[:-1], self._style)

  def finish(self) -> np.ndarray:
    return self._vocoder.decode(self._held, self._style)


@pytest.fixture(scope="session")
def speech() -> dict:
  return {"tokenizer": FakeTokenizer(), "style_encoder": FakeStyleEncoder(), "vocoder": FakeVocoder()}
