import os
import signal

import pytest

from omni_jax.train import stop_signal
from omni_jax.train.stop_signal import StopSignal


def test_a_signal_is_remembered_and_leaving_has_its_status():
  before = signal.getsignal(signal.SIGTERM)
  with StopSignal() as stop:
    assert stop.received is None and not stop.ends(1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.received is signal.SIGTERM and stop.ends(2)
    with pytest.raises(SystemExit) as left:
      stop.leave()
  assert left.value.code == 143
  assert signal.getsignal(signal.SIGTERM) is before


def test_the_second_interrupt_is_not_held_back():
  with StopSignal() as stop:
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
      stop.leave()
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), signal.SIGINT)
      signal.pause()


def test_processes_ask_jax_when_to_stop_and_pass_an_interrupt_on(monkeypatch):
  asked, passed = [], []
  monkeypatch.setattr(stop_signal.jax, "process_count", lambda: 2)
  monkeypatch.setattr(
    stop_signal.multihost_utils, "reached_preemption_sync_point", lambda step: asked.append(step) or step == 3
  )
  term, interrupt = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
  with StopSignal() as stop:
    assert signal.getsignal(signal.SIGTERM) is term, "JAX's own handler of it stays"
    own = os.getpid()
    monkeypatch.setattr(stop_signal.os, "kill", lambda *call: passed.append(call))
    signal.raise_signal(signal.SIGINT)
    assert [stop.ends(step) for step in (1, 2, 3)] == [False, False, True] and asked == [1, 2, 3]
    with pytest.raises(KeyboardInterrupt):
      stop.leave()
  assert passed == [(own, signal.SIGTERM)] and signal.getsignal(signal.SIGINT) is interrupt
