"""Half of a compile runs in a process of its own: whatever becomes of that, the caller is told."""

import os
import signal

import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.topologies import find_topology
from omni_jax.plan import half
from omni_jax.plan.program import TooLarge
from tests.plan.test_report import make_run


def is_killed(*_):
  os.kill(os.getpid(), signal.SIGKILL)


def refuses(run, topology, options, folder, sender):
  sender.send(TooLarge("a step needs 20G", where="plan", rule="it fits", remedy="more chips"))


def writes_nothing(run, topology, options, folder, sender):
  sender.send(None)


@pytest.mark.parametrize(
  ("compiles", "kind", "told"),
  [
    (is_killed, UserError, "ended with status -9"),
    (refuses, TooLarge, "needs 20G"),
    (writes_nothing, UserError, "no .* in the compiler's dump"),
  ],
)
def test_a_compile_that_ends_without_a_layout_is_told(monkeypatch, compiles, kind, told):
  monkeypatch.setattr(half, "_compile", compiles)
  with pytest.raises(kind, match=told):
    half.compile_half(make_run(), find_topology("v5e-1"), options={}, arguments=0)
