"""Whether a written folder says what the model says: logits of ours beside those of `transformers`, in one process.

The table goes into the folder's model card, so that whoever copies the folder sees how far it was checked.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from omni_jax.convert.torch_code import check_code
from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.models.decoder import Decoder
from omni_jax.models.emova import Emova, EmovaConfig
from omni_jax.models.vision_encoder import VisionConfig
from omni_jax.prepare.images import patchify

CARD = "README.md"
_BEGIN, _END = "<!-- parity: begin -->", "<!-- parity: end -->"
_ROWS, _LENGTH = 2, 48
# Rows and columns of vectors of the images in each row: several, of different sizes.
_CELLS = (((2, 3), (1, 2), (4, 2)), ((3, 1),))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parity:
  """One comparison.

  Attributes:
    inputs: what was read: text, units (extra rows), both in turns, or text with images.
    dtype: of both models.
    absolute: largest difference of a logit.
    relative: the same over the largest logit.
    agreement: share of positions at which both choose the same token.
    first_apart: first position at which they do not, -1 if there is none.
  """

  inputs: str
  dtype: str
  absolute: float
  relative: float
  agreement: float
  first_apart: int


def compare(model: Decoder | Emova, folder: Path, *, dtypes: Sequence[str] = ("float32", "bfloat16")) -> list[Parity]:
  """Returns how far the folder's model, read by transformers, is from ours, on random ids and random images.

  Args:
    model: a decoder for a stock folder; a whole model for one of EMOVA's formats, with images besides.
    folder: what was written of it.
    dtypes: of both models.

  Raises:
    UserError: torch or transformers is missing, transformers cannot read the folder, or its torch files are not ours.
  """
  torch, transformers = _peers()
  whole = isinstance(model, Emova)
  if whole:
    check_code(folder)
  rows = []
  for dtype in dtypes:
    options = {"dtype": getattr(torch, dtype), "trust_remote_code": whole, "output_loading_info": True}
    try:
      peer, told = transformers.AutoModelForCausalLM.from_pretrained(folder, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
      raise UserError(
        f"transformers cannot read it ({type(error).__name__}: {str(error)[:300]})",
        where=folder,
        rule="a folder with config.json and weights of a class that transformers has, or of one that lies beside them",
        remedy="export the stage again with --format stock",
      ) from error
    _check_read(told, folder)
    peer = peer.eval()
    ours = jax.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), model)
    for name, pair in _inputs(model).items():
      with torch.no_grad():
        theirs = peer(**{key: torch.from_numpy(array) for key, array in pair.theirs.items()}).logits.float().numpy()
      rows.append(_row(name, dtype, np.asarray(_logits(ours, pair.ours), np.float32), theirs))
  return rows


def table(rows: Sequence[Parity]) -> str:
  """Returns the comparisons as a Markdown table."""
  lines = [
    "| read | dtype | largest difference | relative | same choice | first apart |",
    "| --- | --- | --- | --- | --- | --- |",
  ]
  for row in rows:
    apart = "-" if row.first_apart < 0 else str(row.first_apart)
    figures = f"{row.absolute:.2e} | {row.relative:.2e} | {row.agreement:.1%} | {apart}"
    lines.append(f"| {row.inputs} | {row.dtype} | {figures} |")
  return "\n".join(lines)


def write_card(folder: Path, *, title: str, facts: dict[str, Any]) -> None:
  """Writes the folder's model card; a parity table that is there stays."""
  path = folder / CARD
  _, begin, kept = path.read_text().partition(_BEGIN) if path.exists() else ("", "", "")
  lines = [f"# {title}", "", *(f"* {name}: {value}" for name, value in facts.items())]
  write_whole(path, "\n".join(lines) + "\n" + (f"\n{begin}{kept}" if begin else ""))


def add_parity(folder: Path, rows: Sequence[Parity]) -> None:
  """Puts a parity table into the card of a folder, instead of an older one."""
  path = folder / CARD
  head, begin, rest = (path.read_text() if path.exists() else f"# {folder.name}\n").partition(_BEGIN)
  caption = "Logits beside those of transformers on torch, on random ids:"
  after = rest.partition(_END)[2] if begin else "\n"
  head = head if begin else f"{head}\n"
  write_whole(path, f"{head}{_BEGIN}\n{caption}\n\n{table(rows)}\n{_END}{after}")


@jax.jit
def _logits(model: Any, batch: dict[str, Any]) -> Any:
  if isinstance(model, Decoder):
    return model(batch["tokens"], batch["positions"], batch["segment_ids"])
  return model(batch)


def _check_read(told: dict[str, Any], folder: Path) -> None:
  wrong = {key: sorted(map(str, told[key])) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")}
  if any(wrong.values()):
    raise UserError(
      "; ".join(f"{key.replace('_', ' ')}: {', '.join(names[:10])}" for key, names in wrong.items() if names),
      where=folder,
      rule="transformers reads every tensor of the folder, and its class needs no other",
      remedy="export the stage again",
    )


class _Pair(NamedTuple):
  """The same input for both models."""

  ours: dict[str, np.ndarray]
  theirs: dict[str, np.ndarray]


def _inputs(model: Decoder | Emova) -> dict[str, _Pair]:
  config = model.config if isinstance(model, Decoder) else model.config.decoder
  text_rows, extra_rows = config.vocab_size, config.extra_vocab_size
  draw = np.random.default_rng(0)
  text = draw.integers(0, text_rows, (_ROWS, _LENGTH))
  tokens = {"text": text}
  if extra_rows:
    units = draw.integers(text_rows, text_rows + extra_rows, (_ROWS, _LENGTH))
    tokens |= {"units": units, "both": np.where(np.arange(_LENGTH) // 8 % 2, units, text)}
  pairs = {name: _Pair(_batch(ids), {"input_ids": ids}) for name, ids in tokens.items()}
  if isinstance(model, Emova) and isinstance(model.config.vision, VisionConfig):
    pairs["images"] = _seen(model.config, model.config.vision, text)
  return pairs


def _batch(tokens: np.ndarray) -> dict[str, np.ndarray]:
  places = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
  return {"tokens": tokens, "positions": places, "segment_ids": np.ones_like(tokens)}


def _seen(config: EmovaConfig, vision: VisionConfig, text: np.ndarray) -> _Pair:
  """Returns rows of text with images of `_CELLS` in them."""
  tokens, images = text.copy(), []
  tokens[tokens == config.image_token] = (config.image_token + 1) % config.decoder.vocab_size
  draw = np.random.default_rng(1)
  edge = vision.patch * vision.merge
  for row, cells in enumerate(_CELLS):
    start, placed = 3, []
    for rows, columns in cells:
      tokens[row, start : start + rows * columns] = config.image_token
      start += rows * columns + 2
      pixels = draw.integers(0, 256, (rows * edge, columns * edge, 3)).astype(np.uint8)
      placed.append(patchify(pixels, patch=vision.patch, merge=vision.merge, min_pixels=1, max_pixels=1 << 30))
    images.append(placed)
  joined = [np.concatenate([image.patches for image in placed]) for placed in images]
  most = max(map(len, joined))
  ours = _batch(tokens) | {
    "patches": np.stack([_padded(row, most) for row in joined])[:, None],
    "patch_positions": np.stack([_padded(np.concatenate([i.positions for i in p]), most) for p in images])[:, None],
    "patch_segment_ids": np.stack(
      [_padded(np.repeat(1 + np.arange(len(p)), [len(i.patches) for i in p]), most) for p in images]
    )[:, None],
  }
  grids = [[1, rows * vision.merge, columns * vision.merge] for cells in _CELLS for rows, columns in cells]
  pixels = torch_patches(np.concatenate(joined), vision)
  return _Pair(ours, {"input_ids": tokens, "pixel_values": pixels, "image_grid_thw": np.array(grids)})


def torch_patches(patches: np.ndarray, vision: VisionConfig) -> np.ndarray:
  """Returns our patches (uint8 [P, row column colour]) as Qwen2-VL's processor gives them: normalised, as many frames
  as the tower has weights for, float32 [P, colour frame row column]."""
  colours = patches.reshape(-1, vision.patch, vision.patch, 3) / 255
  normal = (colours - np.array(vision.pixel_mean)) / np.array(vision.pixel_deviation)
  frames = np.repeat(normal.transpose(0, 3, 1, 2)[:, :, None], vision.temporal_patch, axis=2)
  return frames.reshape(len(patches), -1).astype(np.float32)


def _padded(rows: np.ndarray, length: int) -> np.ndarray:
  return np.pad(rows, [(0, length - len(rows)), *[(0, 0)] * (rows.ndim - 1)])


def _row(name: str, dtype: str, ours: np.ndarray, theirs: np.ndarray) -> Parity:
  absolute = float(np.abs(ours - theirs).max())
  same = ours.argmax(-1) == theirs.argmax(-1)
  apart = np.flatnonzero(~same.all(axis=0))
  return Parity(
    inputs=name,
    dtype=dtype,
    absolute=absolute,
    relative=absolute / float(np.abs(theirs).max()),
    agreement=float(same.mean()),
    first_apart=int(apart[0]) if len(apart) else -1,
  )


def _peers() -> tuple[Any, Any]:
  try:
    import torch
    import transformers
  except ImportError as error:
    raise UserError(
      f"{error.name} is not installed",
      where="omni convert verify",
      rule="the comparison runs the folder in transformers on torch",
      remedy="pip install 'omni_jax[torch]'",
    ) from error
  return torch, transformers
