"""Speaks from units with numpy and onnxruntime alone: speak.py STEM UNITS OUT.wav [--style S] [--stream FRAMES]."""

import argparse
import base64
import difflib
import json
import re
import wave

import numpy as np
import onnxruntime

DTYPES = {"tensor(int64)": np.int64, "tensor(float)": np.float32, "tensor(double)": np.float64}


class Voice:
  """An exported vocoder; `facts` is its metadata. What cannot be spoken raises ValueError and says why."""

  def __init__(self, stem: str, *, device: str = "cpu"):
    self.sessions, self.providers = {}, [f"{name}ExecutionProvider" for name in dict.fromkeys((device.upper(), "CPU"))]
    if self.providers[0] not in onnxruntime.get_available_providers():
      raise ValueError(f"this onnxruntime has no {self.providers[0]} (the package onnxruntime-gpu has)")
    self.facts = self._load(f"{stem}.sound.onnx", ".sound")
    for end in self.facts["parts"]:
      if end != ".sound" and self._load(f"{stem}{end}.onnx", end)["export"] != self.facts["export"]:
        raise ValueError(f"{stem}: the files are not of one export, copy all of them again")

  def pieces(self, units, style=None, *, frames=None, seed=0, **delivery):
    """Yields samples of `frames` frames at a time, by default all at once."""
    if frames is not None and frames < 1:
      raise ValueError(f"pieces of {frames} frames: a piece has at least one")
    rng, units, rules = np.random.default_rng(seed), self._checked(units), self.facts["durations"]
    scale = {"noise": 0.0, "duration_noise": 0.0, "length": 1.0, **self.facts["delivery"], **delivery}
    feeds = {"units": units[None], "valid": np.ones((1, len(units))), **self._style(style)}
    if rules is None:  # frames are laid out in the file
      return self._sound({name: rows[0] for name, rows in self._run(".units", feeds).items()}, feeds, frames)
    feeds["noise"] = scale["duration_noise"] * rng.standard_normal((1, len(units), 2))
    *prior, exact = self._run(".units", feeds).values() if ".units" in self.sessions else [np.ones((1, len(units)))]
    exact = exact[0].astype(np.float64) * scale["length"]
    if not exact.sum() * self.facts["hop"] < 60 * self.facts["sample_rate"] * len(units):  # nor a number that is none
      raise ValueError(f"durations of {exact.sum():.3g} frames for {len(units)} units: is every file whole?")
    counts = np.maximum(np.ceil(exact) if rules["rounding"] == "up" else np.round(exact), rules["least"]).astype(int)
    if not prior:
      return self._sound({"units": np.repeat(units, counts, 0)}, feeds, frames)
    draws = scale["noise"] * rng.standard_normal((max(counts.sum(), 1), self.facts["latent"]))
    mean, log_deviation = (np.repeat(part[0], counts, 0) if counts.any() else np.zeros(1) for part in prior)
    return self._sound({"latents": mean + draws * np.exp(log_deviation)}, feeds, frames)

  def _sound(self, rows, feeds, frames):
    context, hop, length = self.facts["context"], self.facts["hop"], len(next(iter(rows.values())))
    for first in range(0, length, frames := frames or length):
      low, high = max(first - context, 0), min(first + frames + context, length)  # true ends have no context
      window = {name: row[None, low:high] for name, row in rows.items()} | {"first": np.array([low])}
      yield self._run(".sound", feeds | window)["waveform"][0, (first - low) * hop :][: frames * hop]

  def _load(self, path, end):
    try:
      self.sessions[end] = onnxruntime.InferenceSession(path, providers=self.providers)
      return json.loads(self.sessions[end].get_modelmeta().custom_metadata_map["omni_jax"])
    except Exception as error:  # onnxruntime has a type of its own for every way in which a file is damaged
      raise ValueError(f"{path} is missing, damaged or no vocoder: {str(error)[:200]}") from error

  def _run(self, end, feeds):
    ports, names = self.sessions[end].get_inputs(), [port.name for port in self.sessions[end].get_outputs()]
    given = {port.name: np.asarray(feeds[port.name], DTYPES[port.type]) for port in ports}
    return dict(zip(names, self.sessions[end].run(names, given), strict=True))

  def _checked(self, units):
    if isinstance(units, str) and re.sub(r"<\|speech_\d+\|>|<\d+>|(?<!\w)-?\d+(?!\w)|[\s,]", "", units):
      raise ValueError(f"units are written <|speech_12|>, <12> or 12, not {units[:40]!r}")
    ids = np.array(re.findall(r"-?\d+", units) if isinstance(units, str) else units, np.float64).reshape(-1)
    row, top, *ends = self.facts["codebooks"], self.facts["codebook_size"] - 1, min(ids, default=0), max(ids, default=0)
    if not ids.size or ids.size % row or not np.isin(ids, np.arange(top + 1)).all():
      raise ValueError(f"{ids.size} units, {ends[0]:g} to {ends[1]:g}: no rows of {row} whole numbers of 0..{top}")
    return ids.astype(np.int64).reshape((-1, row) if row > 1 else -1)

  def _style(self, style):
    names, name = self.facts["styles"], self.facts["style input"]
    if style not in (names if len(names) > 1 else [*names, None]):
      near = ", ".join(difflib.get_close_matches(style or "", names, n=3, cutoff=0.0))
      raise ValueError(f"style {style!r} is none of the {len(names)} known ones: {near}")
    rows = np.frombuffer(base64.b64decode(self.facts["style rows"]), "<f4")
    row = rows.reshape(max(len(names), 1), -1)[names.index(style) if style else 0]
    return {name: row[None] if name == "condition" else row}


if __name__ == "__main__":
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags = {"stem": {}, "units": {}, "out": {}, "--style": {}, "--stream": {"type": int, "metavar": "FRAMES"}}
  for flag, options in {**flags, "--device": {"default": "cpu", "choices": ("cpu", "cuda")}}.items():
    parser.add_argument(flag, **options)
  given = parser.parse_args()
  try:
    voice = Voice(given.stem, device=given.device)
    samples = np.concatenate(list(voice.pieces(given.units, given.style, frames=given.stream)))
    with open(given.out, "wb") as out, wave.open(out, "wb") as file:
      file.setparams((1, 2, voice.facts["sample_rate"], 0, "NONE", ""))
      file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
  except (OSError, ValueError) as error:
    parser.error(str(error))
