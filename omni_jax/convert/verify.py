"""Whether a written folder says what the model says: logits of ours beside those of `transformers`, in one process.

The table goes into the folder's model card, so that whoever copies the folder sees how far it was checked.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.models.decoder import Decoder

CARD = "README.md"
_BEGIN, _END = "<!-- parity: begin -->", "<!-- parity: end -->"
_ROWS, _LENGTH = 2, 48


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parity:
  """One comparison.

  Attributes:
    inputs: what was read: text, units (extra rows), or both in turns.
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


def compare(decoder: Decoder, folder: Path, *, dtypes: Sequence[str] = ("float32", "bfloat16")) -> list[Parity]:
  """Returns how far the folder's model, read by transformers, is from `decoder`, on random ids.

  Raises:
    UserError: torch or transformers is missing, or transformers cannot read the folder.
  """
  torch, transformers = _peers()
  config = decoder.config
  rows = []
  for dtype in dtypes:
    try:
      peer = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
      raise UserError(
        f"transformers cannot read it ({type(error).__name__}: {str(error)[:300]})",
        where=folder,
        rule="a folder with config.json and weights of a class that transformers has",
        remedy="export the stage again with --format stock",
      ) from error
    ours = jax.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), decoder)
    for name, tokens in _inputs(config.vocab_size, config.extra_vocab_size).items():
      with torch.no_grad():
        theirs = peer(torch.from_numpy(tokens)).logits.float().numpy()
      rows.append(_row(name, dtype, np.asarray(_logits(ours, jnp.asarray(tokens)), np.float32), theirs))
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
def _logits(decoder: Decoder, tokens: Any) -> Any:
  places = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  return decoder(tokens, places, jnp.ones_like(tokens))


def _inputs(text_rows: int, extra_rows: int) -> dict[str, np.ndarray]:
  draw = np.random.default_rng(0)
  text = draw.integers(0, text_rows, (_ROWS, _LENGTH))
  if not extra_rows:
    return {"text": text}
  units = draw.integers(text_rows, text_rows + extra_rows, (_ROWS, _LENGTH))
  return {"text": text, "units": units, "both": np.where(np.arange(_LENGTH) // 8 % 2, units, text)}


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
