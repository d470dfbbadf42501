import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omni_jax.build import driver
from omni_jax.build.driver import Preparation, prepare, quarantine_path
from omni_jax.build.processes import run_in_processes
from omni_jax.core.errors import UserError
from omni_jax.prepare.corpora.entries import Entry
from omni_jax.prepare.quarantine import Rejected
from omni_jax.prepare.reader import open_set, verify_split
from omni_jax.prepare.schema import Example, Turn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Numbers:
  """Sentences with numbers in them; a zero is refused when it is read, `twice` is listed again."""

  count: int
  twice: tuple[int, ...] = ()
  pause: float = 0.0

  def entries(self):
    for number in (*range(self.count), *self.twice):
      yield Entry(f"n{number}", (number,))

  def read(self, entry):
    time.sleep(self.pause)
    (number,) = entry.at
    if number % 10 == 9:
      raise UserError("a nine", where=entry.id, rule="no nines", remedy="none")
    return Example(entry.id, "text", (Turn("assistant", f"number {number}"),))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Louder:
  """Puts aside what holds a five, and adds how many records it was given together."""

  def open(self):
    return lambda examples: [
      Rejected(example.id, "a five") if "5" in example.id else dataclasses.replace(
        example, turns=(Turn("assistant", f"{example.turns[0].text.upper()} OF {len(examples)}"),)
      )
      for example in examples
    ]  # fmt: skip


def contents(folder: Path):
  """Returns every file of a set, but the one that names where it was made."""
  return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


PLAN = Preparation(corpus=Numbers(count=40), steps=(Louder(),), portion=8, chunk=3, max_rejected=0.5)


def test_records_in_order_and_the_rest_put_aside(tmp_path):
  made = prepare(PLAN, tmp_path / "set", "train", say=lambda _: None)
  kept = [number for number in range(40) if number % 10 != 9 and "5" not in str(number)]
  assert (made.records, made.rejected, made.was_there) == (len(kept), 8, False)
  source = open_set(tmp_path / "set", "train")
  assert [source[index].id for index in range(len(source))] == [f"n{number}" for number in kept]
  assert source[0].turns[0].text == "NUMBER 0 OF 3" and source[7].turns[0].text == "NUMBER 8 OF 2"
  lines = [json.loads(line) for line in quarantine_path(tmp_path / "set", "train").read_text().splitlines()]
  assert lines[:2] == [{"id": "n5", "reason": "a five"}, {"id": "n9", "reason": "a nine (n9): no nines"}]
  assert verify_split(tmp_path / "set", "train") == 5
  assert not list((tmp_path / "set").glob(".*"))


def test_processes_make_the_same_bytes(tmp_path):
  prepare(PLAN, tmp_path / "a" / "set", "train", say=lambda _: None)
  prepare(PLAN, tmp_path / "b" / "set", "train", run=run_in_processes(2), say=lambda _: None)
  assert contents(tmp_path / "a" / "set") == contents(tmp_path / "b" / "set")


def test_a_second_time_nothing_is_done(tmp_path):
  first = prepare(PLAN, tmp_path / "set", "train", say=lambda _: None)
  again = prepare(PLAN, tmp_path / "set", "train", say=lambda _: pytest.fail("it was made again"))
  assert again == dataclasses.replace(first, was_there=True)


def test_killed_in_the_middle_and_run_again_the_result_is_that_of_an_undisturbed_run(tmp_path):
  slow = dataclasses.replace(PLAN, corpus=Numbers(count=40, pause=0.02))
  program = (
    "import sys, pathlib\n"
    "from tests.build.test_driver import *\n"
    "prepare(dataclasses.replace(PLAN, corpus=Numbers(count=40, pause=0.02)), pathlib.Path(sys.argv[1]), 'train')\n"
  )
  work = tmp_path / "killed" / "set" / ".train.making"
  with subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "killed" / "set")], env=os.environ) as process:
    while not list(work.glob("parts/0*.json")):
      assert process.poll() is None, "it ended before it could be killed"
      time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
  finished = list(work.glob("parts/0*.json"))
  assert 0 < len(finished) < 5 and not (tmp_path / "killed" / "set" / "dataset_info.json").exists()
  said, made = [], []
  run = run_in_processes(1)

  def watched(jobs, work):
    made.extend(job.number for job in jobs)
    yield from run(jobs, work)

  prepare(slow, tmp_path / "killed" / "set", "train", run=watched, say=said.append)
  assert len(made) == 5 - len(finished) and f"{len(finished)} of them made before" in said[0]
  prepare(slow, tmp_path / "whole" / "set", "train", say=said.append)
  assert contents(tmp_path / "killed" / "set") == contents(tmp_path / "whole" / "set")


@pytest.mark.parametrize("function", ["publish", "remember", "write_quarantine"])
def test_an_interruption_at_the_end_is_gone_over_again(tmp_path, monkeypatch, function):
  prepare(PLAN, tmp_path / "whole" / "set", "train", say=lambda _: None)

  def interrupted(*arguments, **settings):
    if function == "publish":  # after two of the shards have their names
      for number, shard in enumerate(arguments[2][:2]):
        os.replace(shard.path, arguments[0] / f"set-train.array_record-{number:05d}-of-00005")
    raise KeyboardInterrupt

  monkeypatch.setattr(driver, function, interrupted)
  with pytest.raises(KeyboardInterrupt):
    prepare(PLAN, tmp_path / "set", "train", say=lambda _: None)
  monkeypatch.undo()
  prepare(PLAN, tmp_path / "set", "train", say=lambda _: None)
  assert contents(tmp_path / "set") == contents(tmp_path / "whole" / "set")


def test_too_much_put_aside_stops_the_work_and_tells_why(tmp_path):
  strict = dataclasses.replace(PLAN, max_rejected=0.1)
  with pytest.raises(UserError, match=r"n5: a five\n.*n9: a nine") as error:
    prepare(strict, tmp_path / "set", "train", say=lambda _: None)
  assert "--max-rejected" in error.value.remedy and Path(error.value.remedy.rpartition(" ")[2]).is_file()
  assert not (tmp_path / "set" / "dataset_info.json").exists()
  assert prepare(PLAN, tmp_path / "set", "train", say=lambda _: None).rejected == 8  # allowed now: it goes on


def test_an_id_that_occurs_twice(tmp_path):
  plan = dataclasses.replace(PLAN, corpus=Numbers(count=4, twice=(2,)), steps=())
  assert prepare(plan, tmp_path / "set", "train", say=lambda _: None).records == 4
  assert "occurs twice" in quarantine_path(tmp_path / "set", "train").read_text()


def test_only_the_first_entries(tmp_path):
  plan = dataclasses.replace(PLAN, limit=3, steps=())
  assert prepare(plan, tmp_path / "set", "train", say=lambda _: None).records == 3


def test_another_corpus_under_the_same_name(tmp_path):
  prepare(PLAN, tmp_path / "set", "train", say=lambda _: None)
  other = dataclasses.replace(PLAN, corpus=Numbers(count=8))
  with pytest.raises(UserError, match="from another config or corpus"):
    prepare(other, tmp_path / "set", "train", say=lambda _: None)
  assert prepare(other, tmp_path / "set", "train", replace=True, say=lambda _: None).records == 7
  assert len(open_set(tmp_path / "set", "train")) == 7 and len(list((tmp_path / "set").glob("set-train*"))) == 1


def test_a_corpus_that_changed_while_it_was_prepared(tmp_path):
  def dies(jobs, work):
    raise KeyboardInterrupt
    yield

  with pytest.raises(KeyboardInterrupt):
    prepare(PLAN, tmp_path / "set", "train", run=dies, say=lambda _: None)
  changed = dataclasses.replace(PLAN, corpus=Numbers(count=41))
  with pytest.raises(UserError, match="begun with another corpus"):
    prepare(changed, tmp_path / "set", "train", say=lambda _: None)
  assert prepare(changed, tmp_path / "set", "train", replace=True, say=lambda _: None).records


@dataclasses.dataclass(frozen=True, kw_only=True)
class Locked(Numbers):
  """A folder that cannot be read."""

  def entries(self):
    raise PermissionError(13, "Permission denied")
    yield


def test_a_corpus_that_cannot_be_listed(tmp_path):
  with pytest.raises(UserError, match=r"cannot list: .*Permission denied"):
    prepare(dataclasses.replace(PLAN, corpus=Locked(count=1)), tmp_path / "set", "train", say=lambda _: None)


@pytest.mark.parametrize(
  ("corpus", "message"), [(Numbers(count=0), "no entries"), (Numbers(count=0, twice=(9,)), "no records")]
)
def test_nothing_to_prepare(tmp_path, corpus, message):
  plan = dataclasses.replace(PLAN, corpus=corpus, max_rejected=1.0)
  with pytest.raises(UserError, match=message):
    prepare(plan, tmp_path / "set", "train", say=lambda _: None)


def test_numbers_that_make_no_sense():
  with pytest.raises(UserError, match="portion 0"):
    dataclasses.replace(PLAN, portion=0)


def _dies(job):
  os._exit(1)


def test_a_process_that_dies_is_told(tmp_path):
  jobs = [driver.Job(PLAN, tmp_path, number) for number in range(2)]
  with pytest.raises(UserError, match="process died"):
    list(run_in_processes(2)(jobs, _dies))
