"""Record sets of tones with units, small enough for tests of batches: two voices, units that say where they are."""

import numpy as np

from omni_jax.batches.spoken import FRAMES_PER_UNIT
from omni_jax.prepare.audio import SAMPLE_RATE, encode_flac
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.writer import write_split

HZ = {"a": 125.0, "b": 200.0}
RAW = (50, 50, 50, 7, 7, *range(20, 30))  # units of 40 ms; the last ten are never repeated
STYLE = "male-sad-low"


def write_sets(folder, *, style=STYLE, unit_frames=()):
  """Writes `corpus/speech` with sound that rises from unit to unit, and `units/speech` with its units."""
  for kind in ("corpus", "units"):
    examples = []
    for identity, (voice, hz) in enumerate(HZ.items()):
      given = {"audio": encode_flac(sound(hz))} if kind == "corpus" else {"units": RAW, "unit_frames": unit_frames}
      examples.append(Example(str(identity), "speech", (Turn("user", "x", style=style, voice=voice, **given),)))
    write_split(folder / kind / "speech", "train", examples)
  return {"corpus": (folder / "corpus" / "speech",), "units": (folder / "units" / "speech",), "split": "train"}


def sound(hz) -> np.ndarray:
  """Returns a tone whose loudness is a line from 0 to 0.5 over the utterance."""
  size = len(RAW) * FRAMES_PER_UNIT * SAMPLE_RATE // 100
  time = np.arange(size) / SAMPLE_RATE
  return (np.sin(2 * np.pi * hz * time) * 0.5 * np.arange(size) / size).astype(np.float32)
