"""Any vocoder of ours for other runtimes, by its kind: what its programs are, and the formats they are written in."""

from pathlib import Path
from typing import Any, NamedTuple

from omni_jax.core.errors import UserError
from omni_jax.export import piper_onnx, snac_onnx, unit_hifigan_onnx, unit_to_speech_onnx, vocoder_onnx
from omni_jax.export.onnx_files import ExportReport, publish_onnx
from omni_jax.export.programs import Program, style_facts
from omni_jax.export.stablehlo import publish_stablehlo
from omni_jax.speech.snac import SNAC
from omni_jax.speech.unit_hifigan import UnitHiFiGAN
from omni_jax.speech.unit_to_speech import UnitToSpeech
from omni_jax.speech.unit_voice import UnitVoice
from omni_jax.speech.vocoder import Vocoder

NOT_STATED = "not stated"


class _Parts(NamedTuple):
  """A network, its programs and its metadata."""

  network: Any
  programs: list[Program]
  facts: dict[str, Any]


def export_onnx(vocoder: Any, stem: Path, *, licence: str = NOT_STATED) -> ExportReport:
  """Writes a vocoder as `STEM.sound.onnx`, and `STEM.units.onnx` where units last, for `runtime/speak.py`.

  Args:
    vocoder: a Vocoder, UnitHiFiGAN, SNAC, UnitVoice, or a UnitToSpeech, whose styles are then its speakers.
    stem: path of the files without their endings.
    licence: of the weights, kept in the files.

  Raises:
    UserError: no vocoder, a voice without styles, or a file that differs from JAX; nothing is written then.
  """
  parts = _parts_of(vocoder, where=stem)
  return publish_onnx(parts.network, parts.programs, stem, facts=parts.facts | {"licence": licence})


def export_piper(vocoder: Any, stem: Path, *, licence: str = NOT_STATED) -> ExportReport:
  """Writes a unit HiFi-GAN or a voice as one graph with Piper's inputs, `STEM.piper.onnx`, and its config beside.

  Raises:
    UserError: as `export_onnx`; a vocoder of another kind, or one with more units than Piper can be given.
  """
  parts = _parts_of(vocoder, where=stem)
  if not isinstance(parts.network, UnitHiFiGAN | UnitToSpeech):
    raise UserError(
      f"a {type(parts.network).__name__}",
      where=stem,
      rule="Piper's inputs are units, lengths, scales and a speaker, which unit HiFi-GAN and unit-to-speech have",
      remedy="write it with --format onnx",
    )
  facts = parts.facts | {"licence": licence}
  program, beside = piper_onnx.program_of(parts.network, facts), {".piper.onnx.json": piper_onnx.config_of(facts)}
  return publish_onnx(parts.network, [program], stem, facts=facts, beside=beside)


def export_stablehlo(vocoder: Any, stem: Path, *, licence: str = NOT_STATED) -> ExportReport:
  """Writes a vocoder as `STEM.stablehlo`, one file for JAX on CPUs, CUDA GPUs and TPUs.

  Raises:
    UserError: as `export_onnx`; a vocoder whose lengths are computed inside of a program.
  """
  parts = _parts_of(vocoder, where=stem)
  return publish_stablehlo(parts.network, parts.programs, stem, facts=parts.facts | {"licence": licence})


def _parts_of(vocoder: Any, *, where: Path) -> _Parts:
  if isinstance(vocoder, UnitToSpeech):
    vocoder = UnitVoice(vocoder)
  if isinstance(vocoder, UnitVoice):
    network, port = vocoder.model, "condition" if vocoder.model.config.condition else None
    styles = unit_to_speech_onnx.styles_of(network, vocoder.centroids)
    facts = unit_to_speech_onnx.facts_of(network, vocoder.delivery)
    facts |= style_facts(styles.names, styles.vectors, port=port)
    return _Parts(network, unit_to_speech_onnx.programs_of(network), facts)
  if isinstance(vocoder, Vocoder):
    return _Parts(vocoder, vocoder_onnx.programs_of(vocoder), vocoder_onnx.facts_of(vocoder))
  if isinstance(vocoder, UnitHiFiGAN):
    return _Parts(vocoder, unit_hifigan_onnx.programs_of(vocoder), unit_hifigan_onnx.facts_of(vocoder))
  if isinstance(vocoder, SNAC):
    return _Parts(vocoder, snac_onnx.programs_of(vocoder), snac_onnx.facts_of(vocoder))
  raise UserError(
    f"a {type(vocoder).__name__}",
    where=where,
    rule="a vocoder is exported: source-filter, unit HiFi-GAN, unit-to-speech or SNAC",
    remedy="choose the stage of a vocoder",
  )
