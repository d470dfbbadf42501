import os
import signal
import subprocess
import sys
import time

import pytest

from omni_jax.core.errors import UserError
from omni_jax.pods import machine
from omni_jax.pods.job import Job

JOB = Job(name="small", train=("--config", "a.py:b", "--workdir", "w"), retries=2)
# A process writes that it has begun; what it does then differs with its number and with how often it has begun.
BEGUN = """
import os, pathlib, sys, time
number = os.environ["JAX_PROCESS_ID"]
begun = pathlib.Path({folder!r}) / f"begun-{{number}}"
begun.write_text(begun.read_text() + "x" if begun.exists() else "x")
times = len(begun.read_text())

def wait_for_the_first():
  first = begun.with_name("begun-0")
  while not first.exists() or len(first.read_text()) < times:
    time.sleep(0.01)
"""


def launch(tmp_path, code, *, processes=2):
  program = [sys.executable, "-c", BEGUN.format(folder=str(tmp_path)) + code]
  return machine.launch(JOB, processes=processes, program=program)


def begun(tmp_path):
  return [len(path.read_text()) for path in sorted(tmp_path.glob("begun-*"))]


def test_each_process_knows_its_place(tmp_path):
  code = 'assert os.environ["JAX_NUM_PROCESSES"] == "3" and sys.argv[1] == "--config" and int(number) < 3'
  assert launch(tmp_path, code, processes=3) == 0
  assert begun(tmp_path) == [1, 1, 1]


def test_a_process_that_is_killed_brings_all_of_them_back(tmp_path):
  code = """
if number == "1" and times < 3:
  wait_for_the_first()
  os.kill(os.getpid(), 9)
if times < 3: time.sleep(60)
"""
  assert launch(tmp_path, code) == 2
  assert begun(tmp_path) == [3, 3]


def test_the_fault_of_a_process_that_lost_another_does_not_end_the_job(tmp_path):
  code = f"""
import signal
begun.with_name(f"pid-{{times}}-{{number}}").write_text(str(os.getpid()))
other = pathlib.Path({str(tmp_path)!r}) / f"pid-{{times}}-1"
if times < 3 and number == "1":
  wait_for_the_first()
  os.kill(os.getpid(), 9)
while times < 3 and (not other.exists() or not other.read_text()):
  time.sleep(0.01)
while times < 3 and " Z " not in pathlib.Path(f"/proc/{{other.read_text()}}/stat").read_text():
  time.sleep(0.001)
sys.exit(1 if times < 3 else 0)
"""
  assert launch(tmp_path, code) == 2


def test_a_fault_of_the_run_ends_all(tmp_path):
  with pytest.raises(UserError, match="status 2"):
    launch(tmp_path, 'if number == "0": sys.exit(2)\ntime.sleep(60)')
  assert begun(tmp_path)[0] == 1


def test_retries_end(tmp_path):
  with pytest.raises(UserError, match="3 attempts were lost"):
    launch(tmp_path, "sys.exit(42)", processes=1)
  assert begun(tmp_path) == [3]


def wait_for(tmp_path, pattern, number):
  limit = time.monotonic() + 60
  while len(list(tmp_path.glob(pattern))) < number and time.monotonic() < limit:
    time.sleep(0.05)


def test_a_signal_while_a_lost_job_is_ended_is_the_last(tmp_path):
  code = f"""
import pathlib
from tests.pods.test_machine import launch
launch(pathlib.Path({str(tmp_path)!r}), '''
import signal
def wait(*_):
  begun.with_name("asked").touch()
  while not begun.with_name("signalled").exists():
    time.sleep(0.01)
  sys.exit(1)
if number == "0":
  signal.signal(signal.SIGTERM, wait)
  begun.with_name("ready").touch()
  time.sleep(60)
while not begun.with_name("ready").exists():
  time.sleep(0.01)
os.kill(os.getpid(), 9)
''')
"""
  process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.getcwd()})
  wait_for(tmp_path, "asked", 1)
  process.send_signal(signal.SIGTERM)
  (tmp_path / "signalled").touch()
  assert process.wait(60) == 143
  assert begun(tmp_path) == [1, 1], "it is not started again"


def test_a_signal_reaches_every_process_and_they_may_finish(tmp_path):
  code = f"""
import pathlib, signal, sys
from tests.pods.test_machine import launch
launch(pathlib.Path({str(tmp_path)!r}), '''
import signal
def save(*_):
  time.sleep(0.2)
  begun.with_name("saved-" + number).touch()
  sys.exit(143)
signal.signal(signal.SIGTERM, save)
begun.with_name("ready-" + number).touch()
time.sleep(60)
''')
"""
  process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.getcwd()})
  wait_for(tmp_path, "ready-*", 2)
  process.send_signal(signal.SIGTERM)
  assert process.wait(60) == 143
  assert len(list(tmp_path.glob("saved-*"))) == 2 and begun(tmp_path) == [1, 1]


def test_numbers_that_cannot_be_are_told():
  with pytest.raises(UserError, match="0 processes"):
    machine.launch(JOB, processes=0)
