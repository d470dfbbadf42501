"""The training section of the report: stages with their curves, and what a vocoder sounded like."""

import json

import numpy as np

from omni_jax.evaluate.report_training import read_stages, training
from omni_jax.prepare.audio import encode_flac


def test_a_stage_that_keeps_sounds_can_be_heard(tmp_path):
  for name in ("unit_vocoder", "tokenizer"):
    (tmp_path / name).mkdir()
    (tmp_path / name / "run.json").write_text(json.dumps({"format": 1, "fingerprint": name, "run": {}, "starts": []}))
    line = {"step": 1, "loss": 2.0, "seconds": 3.0, "critic_right": 0.75}
    (tmp_path / name / "metrics.jsonl").write_text(json.dumps(line) + "\n")
  (tmp_path / "unit_vocoder" / "sounds").mkdir()
  (tmp_path / "unit_vocoder" / "sounds" / "made.flac").write_bytes(encode_flac(np.sin(np.arange(800) / 9)))
  stages = read_stages(tmp_path)
  assert [stage.name for stage in stages] == ["tokenizer", "unit_vocoder"]
  page = training(stages)
  assert page.count("data:audio/flac") == 1 and "unit_vocoder, a clip at the last checkpoint: made" in page
  assert "critic_right 0.75" in page
