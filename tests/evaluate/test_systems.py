"""What evaluation knows of each system: its stage, and that a stage is not evaluated as another system."""

from pathlib import Path

import pytest

from omni_jax.core.config import replace
from omni_jax.core.errors import UserError
from omni_jax.evaluate import systems
from omni_jax.evaluate.context import Evaluation
from omni_jax.evaluate.systems import SYSTEMS
from omni_jax.generate.cascade import Cascade
from omni_jax.generate.row_assistant import RowAssistant


@pytest.fixture(autouse=True)
def mini_omni(monkeypatch):
  made = RowAssistant.__new__(RowAssistant)
  monkeypatch.setattr(systems, "load_assistant", lambda workdir, *, stage: made)
  return made


def test_a_stage_is_evaluated_as_the_system_that_it_is(mini_omni):
  assert SYSTEMS["mini_omni"].load(Path("runs"), stage="mine") is mini_omni
  assert isinstance(SYSTEMS["cascade"].load(Path("runs"), stage="mine"), Cascade)
  for other in ("emova", "speech_gpt"):
    with pytest.raises(UserError, match=r"stage 'mine' is a RowAssistant[\s\S]*--system"):
      SYSTEMS[other].load(Path("runs"), stage="mine")


def test_stages_that_were_named_stay():
  assert SYSTEMS["speech_gpt"].settings(Evaluation()).stage == "speech_gpt"
  assert SYSTEMS["speech_gpt"].settings(Evaluation()).without_triples == ""
  for named in ("mine", "tune"):  # which is also what another system has
    assert SYSTEMS["speech_gpt"].settings(Evaluation(stage=named)).stage == named
  emova = SYSTEMS["emova"].settings(Evaluation())
  assert (emova.stage, emova.without_triples) == ("tune", "tune_without_triples")
  assert SYSTEMS["emova"].settings(replace(Evaluation(), {"without_triples": ""})).without_triples == ""
  assert replace(Evaluation(), {"without_triples": "3"}).without_triples == "3"
