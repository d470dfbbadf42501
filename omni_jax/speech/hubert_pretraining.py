"""A HuBERT that learns: the encoder, the classes it predicts, and the labeller that says which are right.

arXiv 2106.07447: the cosine between a projected frame and the vector of each class, over a temperature, are the
logits. The labeller is frozen: cepstra at first (`mfcc`), a layer of an earlier HuBERT later (`kmeans_tokenizer`); it
runs beside the student, so that no labels are stored. Deviation: no dropout and no layer drop.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from omni_jax.core.arrays import Array, Float, Hidden, Key, typed
from omni_jax.core.errors import UserError
from omni_jax.nn.linear import Linear
from omni_jax.nn.parameter import table
from omni_jax.speech.hubert import HubertConfig
from omni_jax.speech.kmeans_tokenizer import KMeansTokenizerConfig
from omni_jax.speech.mfcc import MfccLabellerConfig

_LABELLER = "labeller."


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubertPretrainingConfig:
  """What learns, and from which labels.

  Attributes:
    hubert: what learns.
    labeller: gives each frame its class.
    class_width: of the vectors of the classes; 256 in HuBERT base, 768 in large.
    temperature: that cosines are divided by; 0.1 in HuBERT.
  """

  hubert: HubertConfig
  labeller: MfccLabellerConfig | KMeansTokenizerConfig
  class_width: int
  temperature: float

  def __post_init__(self):
    labeller = self.labeller
    if isinstance(labeller, MfccLabellerConfig):
      labelled = (labeller.mel.sample_rate, labeller.mel.hop_samples)
    else:
      labelled = (labeller.hubert.sample_rate, labeller.hubert.hop_samples)
    own = (self.hubert.sample_rate, self.hubert.hop_samples)
    if labelled != own or self.temperature <= 0:
      raise UserError(
        f"(sample rate, samples a frame) {own}, of the labels {labelled}, temperature {self.temperature}",
        where="config of HuBERT pretraining",
        rule="a label for each frame: the same rate and hop; and a temperature above zero",
        remedy="change mel.hop_samples of the labeller, or take labels from a HuBERT with the same stem",
      )

  def make(self, *, key: Key) -> "HubertPretraining":
    """Returns the student with random weights beside a labeller with random centres."""
    return HubertPretraining(self, key=key)

  def offered(self, parameters: dict[str, Any]) -> dict[str, Any]:
    """Returns the parameters as a start may name them: those of the labeller as in its own stage."""
    return {path.removeprefix(_LABELLER): leaf for path, leaf in parameters.items()}

  def adopt(self, loaded: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """Returns what a start loaded, under the paths of this model."""
    return {path if path in parameters else _LABELLER + path: leaf for path, leaf in loaded.items()}


class HubertPretraining(nnx.Module):
  """Frames -> logits of their classes."""

  def __init__(self, config: HubertPretrainingConfig, *, key: Key):
    student, head, classes, labeller = jax.random.split(key, 4)
    self.config = config
    self.student = config.hubert.make(key=student)
    width = config.hubert.encoder.width
    self.head = Linear(width, config.class_width, axes=("embed", None), bias=True, key=head)
    self.classes = table(classes, (config.labeller.num_classes, config.class_width), axes=(None, None), deviation=1.0)
    self.labeller = config.labeller.make(key=labeller)

  @typed
  def logits(self, hidden: Hidden) -> Float[Array, "B T K"]:
    """Returns the logits of the classes of each frame, in float32."""
    projected = _unit(self.head(hidden).astype(jnp.float32))
    return projected @ _unit(self.classes[...].astype(jnp.float32)).T / self.config.temperature


def _unit(x: Array) -> Array:
  return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)
