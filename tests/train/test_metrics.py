import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.train.metrics import MetricLog, Window, count_batch, peak_memory_gib, read_metrics


def sums(loss, **more):
  return {"loss": (jnp.float32(loss), 1.0), "gradient_norm": (jnp.float32(1.0), 1.0), **more}


def test_a_window_averages_by_sum_and_count_and_then_starts_anew():
  window = Window()
  window.add(1, sums(2.0, accuracy=(jnp.float32(1), jnp.float32(4)), empty=(jnp.float32(0), jnp.float32(0))), counted=5)
  window.add(2, sums(4.0, accuracy=(jnp.float32(1), jnp.float32(1))), counted=5)
  window.wait(1)
  window.check(remedy="")
  averages, rate = window.flush()
  assert averages == {"loss": 3.0, "gradient_norm": 1.0, "accuracy": 2 / 5}
  assert rate > 0
  assert window.flush()[0] == {}


@pytest.mark.parametrize("name", ["loss", "gradient_norm"])
def test_the_first_step_that_is_not_finite_is_named(name):
  window = Window()
  window.add(1, sums(2.0), counted=1)
  for step in (2, 3):
    window.add(step, sums(2.0) | {name: (jnp.float32(math.inf), 1.0)}, counted=1)
  with pytest.raises(UserError, match=f"{name} is inf at step 2"):
    window.check(remedy="do this")


def test_a_log_is_cut_back_to_the_step_it_goes_on_from(tmp_path):
  log = MetricLog(tmp_path, step=0)
  for step in range(1, 6):
    log.write(step, {"loss": 1.0 / step}, 100.0, unit="tokens")
  log.close()
  seconds = read_metrics(tmp_path)[2]["seconds"]
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 6, "lo')  # torn by a kill
  assert len(read_metrics(tmp_path)) == 5
  log = MetricLog(tmp_path, step=3)
  line = log.write(4, {"loss": 9.0}, 100.0, unit="examples")
  log.close()
  assert [entry["step"] for entry in read_metrics(tmp_path)] == [1, 2, 3, 4]
  assert read_metrics(tmp_path)[-1] == json.loads(json.dumps(line))
  assert line["seconds"] >= seconds and line["examples_per_second"] == 100.0
  assert line["lost_steps"] == 2 and line["lost_seconds"] > 0 and 0 <= line["goodput"] < 1


def test_no_metrics_are_no_lines(tmp_path):
  assert read_metrics(tmp_path) == []


def test_a_packed_batch_counts_tokens_and_another_one_examples():
  assert count_batch({"segment_ids": np.array([[1, 1, 2, 0], [0, 0, 0, 0]])}) == (3, "tokens")
  assert count_batch({"waveform": np.zeros((5, 9))}) == (5, "examples")


def test_peak_memory_is_that_of_a_python_with_jax():
  assert 0.05 < peak_memory_gib() < 100


@pytest.mark.parametrize("line", ['{"step": 1, "lo', "\0\0\0", "[1, 2]", '{"loss": 1.0}'])
def test_a_damaged_line_that_is_not_the_last_is_told(tmp_path, line):
  (tmp_path / "metrics.jsonl").write_text('{"step": 1, "seconds": 1.0}\n' + line + '\n{"step": 3, "seconds": 2.0}\n')
  with pytest.raises(UserError, match="cannot read line 2"):
    read_metrics(tmp_path)
