"""A job whose process is killed comes back by itself: the real `omni train`, several times."""

import random
import sys
from pathlib import Path

import pytest

from omni_jax.pods import machine
from omni_jax.pods.job import Job
from tests.devices import environment
from tests.train.stages import assert_same_bits, curve

pytestmark = pytest.mark.slow

CONFIG = """
from tests.train import jobs

def undisturbed(workdir):
  return jobs.job("Parts", steps=12, save_every=2)

def killed(workdir):
  data = {{"signal_name": "SIGKILL", "process": {process}, "after_batches": {batches}, "mark": str(workdir / "mark")}}
  return jobs.job("Signalled", steps=12, save_every=2, data=data)

def long(workdir):
  return jobs.job("Parts", steps={steps}, save_every=1)

def killed_often(workdir):
  data = {{"kills": {kills}, "most_batches": {most}, "draw": {draw}, "marks": "{marks}"}}
  return jobs.job("Killed", steps={steps}, save_every=1, data=data)
"""


UNSAID = {"process": 0, "batches": 0, "kills": 0, "most": 0, "draw": 0, "marks": "", "steps": 0}


def launch(folder, name, monkeypatch, *, retries=4, **fields):
  """Trains in two processes; returns the stage."""
  path = Path(folder) / "killed_job_of_tests.py"
  path.write_text(CONFIG.format(**{**UNSAID, **fields}))
  for key, value in environment(2).items():
    monkeypatch.setenv(key, value)
  job = Job(name="toy", train=("--config", f"{path}:{name}", "--workdir", str(folder / name)), retries=retries)
  program = (sys.executable, "-m", "omni_jax.cli.main", "train")
  # On a busy machine processes also miss each other when they start (gloo waits 30 s), which is a restart too.
  assert machine.launch(job, processes=2, program=program) >= (name == "killed") + fields.get("kills", 0)
  return folder / name / "stages/toy"


def test_a_killed_process_brings_the_job_back_and_it_ends_in_the_same_bits(tmp_path, monkeypatch):
  """One of two processes is killed at a random batch, in turn the first and the second; about a minute."""
  expected = launch(tmp_path, "undisturbed", monkeypatch)
  for process in (0, 1):
    folder = tmp_path / f"killed-{process}"
    folder.mkdir()
    batches = random.randint(3, 12)
    stage = launch(folder, "killed", monkeypatch, process=process, batches=batches)
    assert (folder / "killed/mark").exists(), batches
    assert_same_bits(expected, stage)
    assert curve(expected) == curve(stage), batches


def test_a_job_killed_twenty_times_ends_in_the_same_bits(tmp_path, monkeypatch):
  """One process of two, drawn anew, in each of twenty lives: the job starts 22 times or more."""
  kills, most = 20, 9  # batches of a life that is killed
  steps = kills * most  # so that no life but the last can end the run, however fast the machine is
  expected = launch(tmp_path, "long", monkeypatch, steps=steps)
  marks, draw = tmp_path / "marks", random.randrange(10**6)
  marks.mkdir()
  fields = {"kills": kills, "most": most, "draw": draw, "marks": marks, "steps": steps}
  stage = launch(tmp_path, "killed_often", monkeypatch, retries=40, **fields)
  assert len(list(marks.iterdir())) == kills, draw
  assert_same_bits(expected, stage)
  assert curve(expected) == curve(stage), draw
