"""What is built of texts (`configs/emova/builders.py`) survives killing and is the same on Apache Beam."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omni_jax.build.beam import run_on_beam
from omni_jax.build.driver import Preparation, prepare
from omni_jax.build.renderings import Rendered
from omni_jax.build.speaking import Cleaned, Engines, Spoken
from omni_jax.prepare.corpora.entries import Entry
from omni_jax.prepare.schema import Example, Turn
from tests.build.test_driver import contents

VOICES = Engines(users=("espeak:f1", "espeak:m3"), answers=("espeak:f1", "espeak:m3"))
STEPS = {"spoken": (Cleaned(), Spoken(voices=VOICES)), "drawn": (Rendered(width=200),)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dialogues:
  """Short exchanges in text; every seventh cannot be said."""

  count: int = 24
  pause: float = 0.0

  def entries(self):
    for number in range(self.count):
      yield Entry(f"d{number}", (number,))

  def read(self, entry):
    time.sleep(self.pause)
    (number,) = entry.at
    asked = "```python code```" if number % 7 == 6 else f"**what** is {number} plus one"
    return Example(entry.id, "text", (Turn("user", asked), Turn("assistant", f"I love that! it is {number + 1}")))


def plan(name: str, *, pause: float = 0.0) -> Preparation:
  return Preparation(corpus=Dialogues(pause=pause), steps=STEPS[name], portion=4, chunk=2, max_rejected=0.5)


@pytest.mark.parametrize("name", STEPS)
def test_killed_in_the_middle_of_building_the_result_is_that_of_an_undisturbed_run(tmp_path, name):
  folder = tmp_path / "killed" / "set"
  program = (
    "import sys, pathlib\n"
    "from tests.build.test_builders import *\n"
    f"prepare(plan({name!r}, pause=0.02), pathlib.Path(sys.argv[1]), 'train')\n"
  )
  with subprocess.Popen([sys.executable, "-c", program, str(folder)], env=os.environ) as process:
    while not list((folder / ".train.making").glob("parts/0*.json")):
      assert process.poll() is None, "it ended before it could be killed"
      time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
  assert not (folder / "dataset_info.json").exists(), "no half set is visible"
  made = prepare(plan(name, pause=0.02), folder, "train", say=lambda _: None)
  whole = tmp_path / "whole" / "set"
  assert prepare(plan(name, pause=0.02), whole, "train", say=lambda _: None) == made
  assert made.records + made.rejected == 24 and made.records > 12 and (made.rejected > 0) == (name == "spoken")
  assert contents(folder) == contents(whole)


@pytest.mark.parametrize("name", STEPS)
def test_beam_builds_the_same_bytes(tmp_path: Path, name):
  for package in ("apache_beam", *(("espeakng_loader", "librosa") if name == "spoken" else ())):
    pytest.importorskip(package)
  prepare(plan(name), tmp_path / "local" / "set", "train", say=lambda _: None)
  prepare(plan(name), tmp_path / "beam" / "set", "train", run=run_on_beam("DirectRunner"), say=lambda _: None)
  assert contents(tmp_path / "local" / "set") == contents(tmp_path / "beam" / "set")
