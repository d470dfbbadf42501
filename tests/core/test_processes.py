import types

import jax
import numpy as np
import pytest

from omni_jax.core import processes
from omni_jax.core.errors import UserError

JOB = {"JAX_COORDINATOR_ADDRESS": "localhost:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}


@pytest.fixture
def joined(monkeypatch):
  calls = []
  monkeypatch.setattr(jax.distributed, "initialize", lambda **options: calls.append(options))
  return calls


def test_a_process_on_its_own_joins_nothing(joined):
  processes.join({})
  processes.join(JOB | {"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"})
  processes.join({"SLURM_NTASKS": "1"})
  assert joined == []


def test_variables_name_a_job(joined):
  processes.join(JOB)
  (options,) = joined
  assert (options["coordinator_address"], options["num_processes"], options["process_id"]) == ("localhost:1", 2, 1)


@pytest.mark.parametrize(
  "found", [{"SLURM_NTASKS": "8"}, {"TPU_WORKER_HOSTNAMES": "a,b"}, {"JAX_PLATFORMS": "tpu,cpu"}]
)
def test_the_machine_is_asked_otherwise(found, joined):
  processes.join(found)
  assert len(joined) == 1 and "num_processes" not in joined[0]


@pytest.mark.parametrize(
  "wrong", [{"JAX_PROCESS_ID": "2"}, {"JAX_PROCESS_ID": "x"}, {"JAX_NUM_PROCESSES": "-1"}, {"JAX_PROCESS_ID": None}]
)
def test_variables_that_contradict_each_other_are_told(wrong, joined):
  given = {name: value for name, value in (JOB | wrong).items() if value is not None}
  with pytest.raises(UserError, match=r"JAX_PROCESS_ID|JAX_NUM_PROCESSES"):
    processes.join(given)
  assert joined == []


@pytest.mark.parametrize(("error", "missing"), [(RuntimeError("DEADLINE_EXCEEDED"), True), (ValueError("port"), False)])
def test_processes_that_do_not_come_are_told_apart_from_wrong_addresses(monkeypatch, error, missing):
  def fail(**_):
    raise error

  monkeypatch.setattr(jax.distributed, "initialize", fail)
  with pytest.raises(UserError, match=str(error)) as told:
    processes.join(JOB)
  assert isinstance(told.value, processes.MissingProcesses) is missing


@pytest.mark.parametrize(
  ("message", "lost"),
  [
    ("UNKNOWN: Gloo AllGather failed: [external/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer", True),
    ("UNAVAILABLE: failed to connect to all addresses", True),
    ("DEADLINE_EXCEEDED: Barrier timed out. Id: shutdown", True),
    ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate", False),
    ("all the input array dimensions must match", False),
  ],
)
def test_a_lost_peer_is_known_by_its_words(monkeypatch, message, lost):
  assert not processes.is_loss(ValueError(message)), "a process on its own has no peers"
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  assert processes.is_loss(ValueError(message)) == lost


def test_a_process_on_its_own_meets_nobody_and_compiles_when_it_calls():
  step = jax.jit(lambda state, batch: state + batch["a"].sum())
  processes.meet("here")
  assert processes.together(step) is step


@pytest.mark.parametrize("moved", [None, types.SimpleNamespace(), types.SimpleNamespace(global_state=object())])
def test_a_jax_that_keeps_its_service_elsewhere_is_told(monkeypatch, moved):
  monkeypatch.setattr(processes, "distributed", moved)
  processes.meet("alone")
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  with pytest.raises(UserError, match=r"JAX .* has no jax\._src[\s\S]*2 processes that meet: here"):
    processes.meet("here")


def test_a_step_begins_when_every_process_has_compiled_it(monkeypatch):
  compiled, met = [], []

  class Step:
    """A step that says when it is compiled."""

    def lower(self, state, batch):
      return self

    def compile(self):
      compiled.append(len(met))

    def __call__(self, state, batch):
      return len(met)

  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(processes, "meet", met.append)
  step = processes.together(Step())
  small, large = {"a": np.ones(2)}, {"a": np.ones(3)}
  assert [step(0, small), step(0, small), step(0, large), step(0, small)] == [1, 1, 2, 2]
  assert compiled == [0, 1], "each shape once, and before the others are met"
