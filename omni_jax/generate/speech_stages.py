"""Speech tokenizers and vocoders of a working folder, trained here or imported, ready to read and speak."""

from pathlib import Path
from typing import Any

import jax

from omni_jax.checkpoint.store import load_model
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.generate.exchange import DEFAULT_STYLE
from omni_jax.nn.weight_norm import fold
from omni_jax.speech.interface import SpeechPart, SpeechTokenizer, Vocoder
from omni_jax.speech.quantizers import Quantizer
from omni_jax.speech.snac import SNAC
from omni_jax.speech.unit_codec import UnitCodec

TOKENIZER, VOCODER = "tokenizer", "vocoder"  # the stages of the tiny journey


def load_tokenizer(workdir: Path, *, stage: str = TOKENIZER) -> SpeechTokenizer:
  """Returns the speech tokenizer of a stage.

  Raises:
    UserError: the stage is missing or damaged, or holds something else.
  """
  model = _load(workdir, stage)
  if not isinstance(model, SpeechTokenizer):
    raise _another(model, workdir, stage, rule="a speech tokenizer makes units of recordings")
  return model


def load_vocoder(workdir: Path, *, stage: str = VOCODER) -> Vocoder:
  """Returns the vocoder of a stage, its kernels folded.

  Raises:
    UserError: the stage is missing or damaged, or holds something else.
  """
  model = _load(workdir, stage)
  if not isinstance(model, Vocoder):
    raise _another(model, workdir, stage, rule="a vocoder makes sound of units")
  return model


def load_codec(workdir: Path, *, stage: str, vocoder: str | None = VOCODER) -> Any:
  """Returns the codec of a stage: a SNAC, or a tokenizer whose units are read digit by digit, with its vocoder.

  Args:
    workdir: the working folder.
    stage: of the codec or of the tokenizer.
    vocoder: stage that speaks a tokenizer's units; None where only codes are asked for.

  Raises:
    UserError: the stage is missing or damaged, or holds something else.
  """
  model = _load(workdir, stage)
  if isinstance(model, SNAC):
    return model
  quantizer = getattr(model.config, "quantizer", None)
  if not isinstance(model, SpeechTokenizer) or not isinstance(quantizer, Quantizer):
    raise _another(model, workdir, stage, rule="a codec makes rows of codes of recordings, as a SNAC or as FSQ units")
  voice = None if vocoder is None else load_vocoder(workdir, stage=vocoder)
  return UnitCodec(model, voice, quantizer=quantizer, manner=DEFAULT_STYLE)


def check_units_of(part: SpeechPart, *, codebook_size: int, where: object) -> None:
  """Raises a UserError unless a part has one unit a frame, out of as many as a vocabulary names."""
  if part.num_codebooks != 1 or part.codebook_size != codebook_size:
    raise UserError(
      f"{part.num_codebooks} units a frame out of {part.codebook_size}",
      where=where,
      rule=f"the vocabulary has one row of {codebook_size} units",
      remedy="choose the tokenizer and the vocoder that the language model was trained with, or of the same units",
    )


def _load(workdir: Path, stage: str) -> Any:
  """Returns the model of a stage, with kernels of one array where its config can do without two."""
  config, model = load_model(workdir / "stages" / stage)
  inference = getattr(config, "inference", config)
  if inference == config:
    return model
  into = jax.eval_shape(lambda: inference.make(key=jax.random.key(0)))
  return trees.unflatten(into, jax.jit(fold)(trees.flatten(model)))


def _another(model: Any, workdir: Path, stage: str, *, rule: str) -> UserError:
  return UserError(
    f"stage {stage!r} holds a {type(model).__name__}",
    where=workdir / "stages" / stage,
    rule=rule,
    remedy="name another stage, or import one (`omni convert import --part`)",
  )
