"""Any vocoder of ours as ONNX, by its kind; what is written and refused is told in `onnx_files.py`."""

from pathlib import Path
from typing import Any

from omni_jax.core.errors import UserError
from omni_jax.export import unit_hifigan_onnx, unit_to_speech_onnx, vocoder_onnx
from omni_jax.export.onnx_files import ExportReport, publish_onnx
from omni_jax.export.programs import style_facts
from omni_jax.speech.conditions import Centroids
from omni_jax.speech.unit_hifigan import UnitHiFiGAN
from omni_jax.speech.unit_to_speech import UnitToSpeech
from omni_jax.speech.unit_voice import Delivery
from omni_jax.speech.vocoder import Vocoder

NOT_STATED = "not stated"


def export_onnx(
  model: Any,
  stem: Path,
  *,
  styles: Centroids | None = None,
  licence: str = NOT_STATED,
  delivery: Delivery | None = None,
) -> ExportReport:
  """Writes a vocoder as `STEM.onnx`, or as `STEM.units.onnx` and `STEM.sound.onnx`.

  Args:
    model: a Vocoder, UnitHiFiGAN or UnitToSpeech.
    stem: path of the files without their endings.
    styles: conditions of a unit-to-speech model; by default its table of speakers.
    licence: of the weights, kept in the files.
    delivery: how units are spoken where the runtime is not told.

  Raises:
    UserError: no vocoder, styles that do not fit, or a file that differs from JAX; nothing is written then.
  """
  if isinstance(model, Vocoder):
    programs, facts = vocoder_onnx.programs_of(model), vocoder_onnx.facts_of(model)
  elif isinstance(model, UnitHiFiGAN):
    programs, facts = unit_hifigan_onnx.programs_of(model), unit_hifigan_onnx.facts_of(model)
  elif isinstance(model, UnitToSpeech):
    known = unit_to_speech_onnx.styles_of(model, styles)
    programs = unit_to_speech_onnx.programs_of(model)
    facts = unit_to_speech_onnx.facts_of(model, delivery or Delivery()) | style_facts(
      known.names, known.vectors, port="condition"
    )
  else:
    raise UserError(
      f"a {type(model).__name__}",
      where=stem,
      rule="a vocoder is exported: source-filter, unit HiFi-GAN or unit-to-speech",
      remedy="choose the stage of a vocoder",
    )
  return publish_onnx(model, programs, stem, facts=facts | {"licence": licence})
