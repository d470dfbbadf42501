"""Planned batches over processes that know nothing of each other: killed, resumed, and resumed on another number."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omni_jax.batches.planned import PlannedBatches
from omni_jax.core.config import to_json
from tests.batches.test_planned import config  # noqa: F401, a fixture

STEPS, ENDLESS = 8, 100_000
ROOT = Path(__file__).parents[2]


def start(data: PlannedBatches, folder: Path, *, parts: int, steps: int) -> list[subprocess.Popen]:
  """Starts the processes of a run, each with a hash seed of its own."""
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / "config.json"
  path.write_text(json.dumps(to_json(data)))
  command = [sys.executable, "-m", "tests.batches.reader_process", str(path)]
  settings = {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "stderr": subprocess.PIPE}
  return [
    subprocess.Popen([*command, str(part), str(parts), str(steps), str(folder)], **settings) for part in range(parts)
  ]


def finish(processes: list[subprocess.Popen]) -> None:
  for process in processes:
    _, told = process.communicate(timeout=600)
    assert process.returncode == 0, told.decode()


def lines_of(folder: Path, parts: int) -> list[list[list[str]]]:
  """Returns for each process the digests of the rows of each batch that it wrote whole."""
  found = [(folder / f"{part}.rows") for part in range(parts)]
  texts = [path.read_text() if path.exists() else "" for path in found]
  return [[line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")] for text in texts]


def batches(folder: Path, parts: int) -> list[list[str]]:
  """Returns the digests of the rows of each batch, the parts put together in their order."""
  return [[row for part in rows for row in part] for rows in zip(*lines_of(folder, parts), strict=False)]


@pytest.mark.slow
def test_processes_killed_and_resumed_on_another_number_read_the_same_batches(config, tmp_path):  # noqa: F811
  runs = {parts: start(config, tmp_path / f"of_{parts}", parts=parts, steps=STEPS) for parts in (1, 2)}  # one plan
  other = dataclasses.replace(config, plans=tmp_path / "other")  # counted and planned by four at once, and killed
  folder = tmp_path / "killed"
  killed = start(other, folder, parts=4, steps=ENDLESS)
  deadline = time.monotonic() + 600
  while min(map(len, lines_of(folder, 4))) < 3:
    assert time.monotonic() < deadline and all(process.poll() is None for process in killed)
    time.sleep(0.02)
  for process in killed:
    process.send_signal(signal.SIGKILL)
    process.communicate()
  for processes in runs.values():
    finish(processes)
  expected = batches(tmp_path / "of_1", 1)
  assert len(expected) == STEPS and len({tuple(batch) for batch in expected}) == STEPS
  assert batches(tmp_path / "of_2", 2) == expected
  before = batches(folder, 4)
  assert before[:STEPS] == expected[: len(before)]
  resumed = {parts: start_after(other, folder, tmp_path / f"on_{parts}", parts=parts) for parts in (2, 4)}
  for parts, processes in resumed.items():
    finish(processes)
    assert batches(tmp_path / f"on_{parts}", parts) == expected[2:]


def start_after(data: PlannedBatches, killed: Path, folder: Path, *, parts: int) -> list[subprocess.Popen]:
  """Starts so many processes from the position after two batches, which the killed ones had all come past."""
  folder.mkdir()
  state = json.loads((killed / "0.state").read_text())
  assert state["row"] >= 2 * data.rows
  for part in range(parts):
    (folder / f"{part}.state").write_text(json.dumps(state | {"row": 2 * data.rows}))
  own = dataclasses.replace(data, workers=1 if parts == 2 else 0)
  return start(own, folder, parts=parts, steps=STEPS)
