"""The systems that can be evaluated, and what each of them must be able to do for a task.

All are asked by the same calls (`generate.exchange.Answering`) and judged on the same samples. What a system cannot do
is left out with the reason, so that nothing is counted as wrong that was never promised.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omni_jax.core.errors import UserError
from omni_jax.evaluate.context import Evaluation
from omni_jax.generate.assistant import Assistant
from omni_jax.generate.cascade import Cascade
from omni_jax.generate.exchange import Ability
from omni_jax.generate.loading import load_assistant
from omni_jax.generate.row_assistant import RowAssistant
from omni_jax.generate.speech_gpt_assistant import SpeechGPTAssistant

# What a task asks of a system besides hearing, answering and speaking.
NEEDS: Mapping[str, Ability] = {
  "tokenizer": Ability.READS_PHONES,
  "images": Ability.SEES,
  "spoken_images": Ability.SEES,
  "emotion_heard": Ability.HEARS_STYLES,
  "style": Ability.SPEAKS_STYLES,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
  """A system as evaluation knows it.

  Attributes:
    title: in tables and reports.
    stage: of its language model, unless another one is named.
    assistant: the class of what such a stage answers with.
    parts: stages of speech that it may hear and speak with; those that are not there do not count.
    folder: of its results, below `<workdir>/evaluation`; empty for the folder itself.
    without_triples: the same stage trained without any three-modality sample; empty for none.
    tasks: those that say something about it; all if empty.
  """

  title: str
  stage: str
  assistant: type[Any]
  parts: tuple[str, ...]
  folder: str = ""
  without_triples: str = ""
  tasks: tuple[str, ...] = ()

  def settings(self, settings: Evaluation) -> Evaluation:
    """Returns the settings with this system's stages where none were named."""
    twin = self.without_triples if settings.without_triples is None else settings.without_triples
    return dataclasses.replace(settings, stage=settings.stage or self.stage, without_triples=twin)

  def load(self, workdir: Path, *, stage: str) -> Any:
    """Returns the assistant of a stage.

    Raises:
      UserError: the stage is missing or damaged, or is another system's, as whose its results would be told.
    """
    assistant = load_assistant(workdir, stage=stage)
    if not isinstance(assistant, self.assistant):
      raise UserError(
        f"stage {stage!r} is a {type(assistant).__name__}",
        where=workdir / "stages" / stage,
        rule=f"{self.title} is a {self.assistant.__name__}",
        remedy="name the system of the stage with --system, or another stage",
      )
    return assistant

  def results(self, workdir: Path) -> Path:
    """Returns the folder of its results."""
    return workdir / "evaluation" / self.folder


class _CascadeKind(Kind):
  def load(self, workdir: Path, *, stage: str) -> Any:
    return Cascade.of(super().load(workdir, stage=stage))


SYSTEMS: Mapping[str, Kind] = {
  "emova": Kind(
    title="EMOVA",
    stage="tune",
    assistant=Assistant,
    parts=("tokenizer", "style", "vocoder"),
    without_triples="tune_without_triples",
  ),
  "mini_omni": Kind(
    title="Mini-Omni",
    stage="mini_omni",
    assistant=RowAssistant,
    parts=("snac", "tokenizer", "vocoder"),
    folder="mini_omni",
  ),
  "speech_gpt": Kind(
    title="SpeechGPT",
    stage="speech_gpt",
    assistant=SpeechGPTAssistant,
    parts=("tokenizer", "vocoder"),
    folder="speech_gpt",
  ),
  "cascade": _CascadeKind(
    title="Cascade",
    stage="tune",
    assistant=object,  # of any system's parts
    parts=("tokenizer", "style", "vocoder"),
    folder="cascade",
    tasks=("recognition", "dialogue", "synthesis", "timings"),  # its parts are evaluated as themselves
  ),
}


def system_kind(name: str) -> Kind:
  """Returns the system of a name.

  Raises:
    UserError: there is none.
  """
  if name not in SYSTEMS:
    raise UserError(
      f"unknown system {name!r}",
      where="--system",
      rule=f"a system is one of {', '.join(SYSTEMS)}",
      remedy="correct the name",
    )
  return SYSTEMS[name]
