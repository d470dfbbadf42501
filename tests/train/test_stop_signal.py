import os
import signal

import pytest

from omni_jax.train.stop_signal import StopSignal


def test_a_signal_is_remembered_and_leaving_has_its_status():
  before = signal.getsignal(signal.SIGTERM)
  with StopSignal() as stop:
    assert stop.received is None
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.received is signal.SIGTERM
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
