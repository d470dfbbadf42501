"""The vocoder of the tiny journey without a look at later units: it speaks while units still arrive.

Source: our own. `vocoder_filters.py` looks 6 units ahead (0.30 s when each lasts 40 ms, or more). Here
durations and states follow from what was said, and 12 frames of 10 ms look ahead instead of 4: 0.14 s in all,
whatever the durations (`Vocoder.lookahead_seconds`; the goal is 0.2 s). Every layer is as wide as there.
Command: omni train --config configs/emova/vocoder_causal.py:filters --workdir runs/tiny
         omni train --config configs/emova/vocoder_causal.py:tiny --workdir runs/tiny
         omni say --workdir runs/tiny --vocoder vocoder_causal --text "the dog is old" --out said.wav
Hardware and hours: one CPU core, about 10 minutes together, as the two stages of `vocoder.py`.
Expect: not yet trained to the end.
"""

import dataclasses
from pathlib import Path

from configs.emova import vocoder, vocoder_filters
from omni_jax.checkpoint.initialise import Start
from omni_jax.train.loop import Run

MODEL = dataclasses.replace(
  vocoder_filters.MODEL,
  unit_blocks=tuple((dilation, 0) for dilation, _ in vocoder_filters.MODEL.unit_blocks),
  frame_dilations=(1, 3, 4, 4),
)


def filters(workdir: Path) -> Run:
  """The first stage: filters, F0 and durations without sound."""
  return _of(vocoder_filters.tiny(workdir), name="vocoder_causal_filters", start=())


def tiny(workdir: Path) -> Run:
  """The second stage: the waveform."""
  start = Start(workdir / "stages" / "vocoder_causal_filters")
  return _of(vocoder.tiny(workdir), name="vocoder_causal", start=(start,))


def smoke(workdir: Path) -> Run:
  """The first stage in seconds; it only hums."""
  return _of(vocoder_filters.smoke(workdir), name="vocoder_causal_filters", start=())


def _of(run: Run, *, name: str, start: tuple[Start, ...]) -> Run:
  """Returns the same run with the causal model, and clips of as much context as it has."""
  context = {
    "margin_frames": MODEL.frames_around, "units_behind": MODEL.units_behind, "units_ahead": MODEL.units_ahead,
  }  # fmt: skip
  return dataclasses.replace(run, name=name, model=MODEL, start=start, data=dataclasses.replace(run.data, **context))
