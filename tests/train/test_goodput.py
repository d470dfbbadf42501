import time

import numpy as np
import pytest

from omni_jax.train.goodput import Goodput


def line(step, seconds, **more):
  return {"step": step, "loss": 1.0, "seconds": seconds, **more}


def test_a_life_on_its_own_counts_what_was_no_step():
  spent = Goodput([], step=0)
  spent.add("start", 5.0)
  with spent.spent("checkpoint"):
    time.sleep(0.02)
  with spent.spent("data", counts=lambda: False):
    time.sleep(0.02)
  figures = spent.figures(15.0)
  assert figures["start_seconds"] == 5.0 and figures["data_seconds"] == 0.0 and figures["lost_steps"] == 0.0
  assert 0.02 <= figures["checkpoint_seconds"] < 1.0
  assert figures["goodput"] == pytest.approx(1 - (5.0 + figures["checkpoint_seconds"]) / 20.0)


def test_a_step_compiles_where_the_shapes_are_new():
  spent, seconds = Goodput([], step=0), []
  for rows in (2, 2, 3, 2):
    with spent.stepping({"tokens": np.zeros((rows, 4))}):
      time.sleep(0.01)
    seconds.append(spent.figures(1.0)["compile_seconds"])
  assert 0.0 < seconds[0] == seconds[1] < seconds[2] == seconds[3]


def test_steps_after_the_checkpoint_are_lost_and_add_up_over_lives():
  first = [line(step, 10.0 * step, start_seconds=3.0) for step in range(1, 8)]
  second = Goodput(first, step=4).figures(40.0)
  assert second["lost_steps"] == 3 and second["lost_seconds"] == 30.0 and second["start_seconds"] == 3.0
  assert second["goodput"] == pytest.approx(1 - 33.0 / 73.0)
  # The second life logs up to step 6 and is lost from step 4 on too, with its start of 2 seconds.
  own = second | {"start_seconds": 5.0}
  lines = [*first[:4], line(5, 50.0, **own), line(6, 60.0, **own)]
  third = Goodput(lines, step=4).figures(40.0)
  assert third["lost_steps"] == 5 and third["lost_seconds"] == 30.0 + 2.0 + 20.0


def test_a_run_that_never_saved_lost_everything():
  figures = Goodput([line(1, 4.0), line(2, 9.0)], step=0).figures(0.0)
  assert figures["lost_steps"] == 2 and figures["lost_seconds"] == 9.0 and figures["goodput"] == 0.0
