"""SPIRAL2's pre-training: a student that sees masked frames predicts what a slowly following teacher makes of them all.

SPIRAL (arXiv 2201.10207) as the EMOVA speech tokenizer trained it (`ST2VecEncoder`):

    masked frames  -> student encoder -> projector -> predictor  --.
                                                                    cosine, against other frames (`train.spiral_losses`)
    shifted frames -> teacher encoder -> projector ----------------'

The teacher is an average of the student over steps (`train.optimizer.Average`), never differentiated. What fine-tuning
takes over is `encoder`. Deviation: the predictor's batch norm counts valid frames only and keeps no running statistics,
which nothing would read.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from omni_jax.core.arrays import Array, Float, Hidden, Int, Key, Mel, Waveform, typed
from omni_jax.nn.linear import Linear
from omni_jax.nn.parameter import constant
from omni_jax.speech.mel import MelConfig
from omni_jax.speech.spiral import SPIRAL2_BASE_40MS, ConvolutionConfig, NormedConvolution, SpiralConfig
from omni_jax.speech.spiral_features import EMOVA_MEL, spiral_features

_EPS = 1e-3  # of the original's batch norm


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpiralPretrainingConfig:
  """An encoder with what its pre-training needs.

  Attributes:
    encoder: of student and teacher.
    mel: analysis of the waveform.
    width: of the vectors that are compared.
    predictor_depth, predictor_taps: its convolutions.
  """

  encoder: SpiralConfig
  mel: MelConfig = EMOVA_MEL
  width: int = 256
  predictor_depth: int = 2
  predictor_taps: int = 5

  def make(self, *, key: Key) -> "SpiralPretraining":
    """Returns a student with random weights and a teacher that is the same."""
    return SpiralPretraining(self, key=key)


SPIRAL2_PRETRAINING = SpiralPretrainingConfig(encoder=SPIRAL2_BASE_40MS)


class BatchNorm(nnx.Module):
  """Mean 0 and variance 1 of each channel over the valid frames of the whole batch, then a learned scale and shift."""

  def __init__(self, width: int):
    self.scale = constant(1.0, (width,), axes=(None,))
    self.bias = constant(0.0, (width,), axes=(None,))

  def __call__(self, x: Array, lengths: Array) -> Array:
    """Returns frames of the same shape."""
    valid = (jnp.arange(x.shape[1])[None] < lengths[:, None])[..., None]
    count = jnp.maximum(valid.sum(), 1)
    mean = jnp.where(valid, x, 0.0).sum((0, 1)) / count
    variance = jnp.where(valid, jnp.square(x - mean), 0.0).sum((0, 1)) / count
    return (x - mean) * jax.lax.rsqrt(variance + _EPS) * self.scale[...] + self.bias[...]


class Predictor(nnx.Module):
  """Convolutions with batch norm and ReLU, then a matrix."""

  def __init__(self, config: SpiralPretrainingConfig, *, key: Key):
    keys = jax.random.split(key, config.predictor_depth + 1)
    layer = ConvolutionConfig(width=config.width, taps=config.predictor_taps, norm=False, relu=False)
    self.layers = nnx.List([NormedConvolution(config.width, layer, key=own) for own in keys[:-1]])
    self.norms = nnx.List([BatchNorm(config.width) for _ in keys[:-1]])
    self.output = Linear(config.width, config.width, axes=("embed", None), bias=True, key=keys[-1])

  def __call__(self, x: Hidden, lengths: Array) -> Hidden:
    """Returns vectors of the same shape."""
    for layer, norm in zip(self.layers, self.norms, strict=True):
      x, _ = layer(x, lengths)
      x = jax.nn.relu(norm(x, lengths))
    return self.output(x)


class SpiralPretraining(nnx.Module):
  """Student, predictor and teacher."""

  def __init__(self, config: SpiralPretrainingConfig, *, key: Key):
    encoder, projector, predictor = jax.random.split(key, 3)
    self.config = config
    self.encoder = config.encoder.make(key=encoder)
    self.projector = _projector(config, key=projector)
    self.predictor = Predictor(config, key=predictor)
    self.teacher_encoder = config.encoder.make(key=encoder)
    self.teacher_projector = _projector(config, key=projector)

  @typed
  def features(self, waveform: Waveform, samples: Int[Array, "B"], *, key: Key | None = None) -> Mel:
    """Returns the frames of each row; with a key, dithered for training."""
    return spiral_features(waveform, samples, self.config.mel, key=key)

  def predict(self, features: Mel, num_frames: Array, *, key: Key) -> Float[Array, "B U E"]:
    """Returns the student's guess of the teacher's vectors."""
    x = self.projector(self.encoder(features, num_frames, key=key))
    return self.predictor(x, -(-num_frames // self.config.encoder.stride))

  def targets(self, features: Mel, num_frames: Array, *, key: Key) -> Float[Array, "B U E"]:
    """Returns the teacher's vectors, with dropout like the student's and without a gradient."""
    return jax.lax.stop_gradient(self.teacher_projector(self.teacher_encoder(features, num_frames, key=key)))


def _projector(config: SpiralPretrainingConfig, *, key: Key) -> Linear:
  return Linear(config.encoder.width, config.width, axes=("embed", None), bias=True, key=key)
