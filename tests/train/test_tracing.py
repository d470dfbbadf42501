"""A file asks for a trace of the next steps while a run goes on."""

import jax

from omni_jax.train.loop import train
from omni_jax.train.tracing import Tracer
from tests.train.toy import ToyConfig, make_run


def test_a_run_traces_the_steps_that_are_asked_for(tmp_path, capsys):
  stage = tmp_path / "stages/toy"
  stage.mkdir(parents=True)
  (stage / "trace").write_text("2\n")
  train(make_run(steps=4, model=ToyConfig(width=8, depth=1, vocab_size=32)), tmp_path)
  assert not (stage / "trace").exists()
  assert list((stage / "events/plugins/profile").rglob("*.xplane.pb"))
  assert "traced:" in capsys.readouterr().out


def test_only_what_is_asked_for_is_traced(tmp_path, monkeypatch):
  calls = []
  monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: calls.append("start"))
  monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
  with Tracer(tmp_path, say=calls.append) as tracer:
    tracer.look(1)
    assert not tracer.is_tracing
    (tmp_path / "trace").touch()
    tracer.look(1)
    assert calls == ["start"] and not tracer.ends(3) and tracer.ends(4)
    tracer.finish()
    assert calls[1] == "stop" and "profile" in calls[2] and not tracer.ends(5)
    (tmp_path / "trace").mkdir()
    tracer.look(5)
    assert not tracer.is_tracing, "a folder asks for nothing, and does not end a run"
    (tmp_path / "trace").rmdir()
    (tmp_path / "trace").write_bytes(b"\xff")
    tracer.look(5)
    assert not tracer.ends(7) and tracer.ends(8), "what is no number is the usual number of steps"
  assert calls[3:] == ["start", "stop"], "a run that ends ends its trace"
