"""The assistant of a stage: which system it is follows from what the stage was trained on, as its card says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omni_jax.batches.grids import GridBatches
from omni_jax.batches.sequences import SequenceBatches
from omni_jax.batches.speech_instruct import InstructBatches
from omni_jax.checkpoint.card import stage_data
from omni_jax.core.errors import UserError
from omni_jax.generate.assistant import Assistant
from omni_jax.generate.exchange import Answering
from omni_jax.generate.row_assistant import RowAssistant
from omni_jax.generate.sampling import Sampling
from omni_jax.generate.speech_gpt_assistant import SpeechGPTAssistant

_ASSISTANTS: Mapping[type, Any] = {
  SequenceBatches: Assistant,
  InstructBatches: SpeechGPTAssistant,
  GridBatches: RowAssistant,
}
STAGES = ("tune", "speech_gpt", "mini_omni")  # of EMOVA, SpeechGPT and Mini-Omni in the tiny journey


def usual_stage(workdir: Path) -> str:
  """Returns the first of `STAGES` that a working folder has; the first of all where it has none."""
  there = (stage for stage in STAGES if (Path(workdir) / "stages" / stage / "run.json").is_file())
  return next(there, STAGES[0])


def load_assistant(workdir: Path, *, stage: str, sampling: Sampling | None = None, **parts: str) -> Answering:
  """Returns the assistant of the newest checkpoint of a stage.

  Args:
    workdir: the working folder.
    stage: of the language model: `tune` of EMOVA, `speech_gpt`, `mini_omni`, or one that learned the same.
    sampling: how answers are drawn.
    parts: stages of the `tokenizer` and the `vocoder`, where they are others than the journey's.

  Raises:
    UserError: a stage is missing or damaged, belongs to other units, or holds no language model.
  """
  folder = Path(workdir) / "stages" / stage
  data = stage_data(folder)
  kind = SequenceBatches if data is None else type(data)  # whose loader says what an imported stage lacks
  # A planned order (`batches.planned`) is a kind of sequences.
  assistant = next((own for data, own in _ASSISTANTS.items() if issubclass(kind, data)), None)
  if assistant is None:
    raise UserError(
      f"stage {stage!r} was trained on {kind.__name__}",
      where=folder,
      rule="an assistant needs a stage of the language model",
      remedy="choose a stage such as tune, speech_gpt or mini_omni",
    )
  return assistant.load(workdir, stage=stage, sampling=sampling, **parts)
