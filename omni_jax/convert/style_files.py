"""Centroids of styles as EMOVA keeps them: a list of conditions, and a file of NumPy for each vector.

condition2style_centroid.txt      condition|style_centroid_file
                                  gender-female_emotion-angry_speed-fast_pitch-high|style_centroids/0.npy
"""

import io
from pathlib import Path

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.speech.conditions import Centroids

LIST = "condition2style_centroid.txt"
_HEADER, _FOLDER = "condition|style_centroid_file", "style_centroids"


def read_styles(path: Path) -> Centroids:
  """Returns the centroids of a list, or of the list in a folder; vectors lie where it says, or beside it.

  Raises:
    UserError: a file is missing or damaged, or vectors are of different widths; all missing ones are told.
  """
  path = path / LIST if path.is_dir() else path
  if not path.is_file():
    raise UserError("no such file", where=path, rule=f"styles are listed in {LIST}", remedy="check the path")
  lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
  pairs = [tuple(line.split("|")) for line in lines if line != _HEADER]
  wrong = [
    line for line, pair in zip([line for line in lines if line != _HEADER], pairs, strict=True) if len(pair) != 2
  ]
  if wrong or not pairs:
    raise UserError(
      f"cannot read {wrong[0]!r}" if wrong else "no conditions",
      where=path,
      rule="every line is a condition and the file of its vector, with | between them",
      remedy="copy the list again",
    )
  vectors, problems = [], []
  for _, name in pairs:
    try:
      vectors.append(_vector(path.parent, name))
    except (OSError, ValueError, EOFError) as error:
      problems.append(f"{name}: {error}")
  if problems or len({vector.shape for vector in vectors}) != 1:
    raise UserError(
      "cannot read the vectors:\n    " + "\n    ".join(problems[:40] or ["they are of different widths"]),
      where=path,
      rule="the file of a condition holds one row of numbers (a pointer of git lfs is not the file)",
      remedy="copy the files that the list names into the folder of the list",
    )
  return Centroids(tuple(pair[0] for pair in pairs), np.stack(vectors))


def write_styles(centroids: Centroids, folder: Path) -> Path:
  """Writes the vectors, then the list, and returns the list."""
  names = [f"{_FOLDER}/{number}.npy" for number in range(len(centroids.names))]
  for name, vector in zip(names, centroids.vectors, strict=True):
    held = io.BytesIO()
    np.save(held, np.asarray(vector))
    write_whole(folder / name, held.getvalue())
  lines = [f"{condition}|{name}" for condition, name in zip(centroids.names, names, strict=True)]
  write_whole(folder / LIST, "\n".join([_HEADER, *lines]) + "\n")
  return folder / LIST


def _vector(folder: Path, name: str) -> np.ndarray:
  path = folder / name
  path = path if path.is_file() else folder / Path(name).name
  return np.asarray(np.load(path, allow_pickle=False), np.float32).reshape(-1)
