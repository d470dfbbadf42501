"""A released text tokenizer and speech units in one vocabulary: made anew, or read from a release.

    0 ................. text_size .................................................... size, a multiple of 128
    | text and specials | units | <image> <pad> | heard answer | styles ............. | unused |
    '- the base's rows -'-------------------- the extra table -------------------------------'

For Qwen2.5 text_size is 151,665 and size 155,776 (EMOVA, config.json of every size), and `<image>` and `<pad>` have the
ids of EMOVA's Hugging Face format. EMOVA's units follow the order of a Python set, so their ids are read from its
tokenizer, never computed (scripts/insert_speech_token.py).
"""

import json
import pathlib
import re
from collections.abc import Mapping

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.tokens.hugging_face import HuggingFaceTokenizer
from omni_jax.tokens.text import SentencePieceTokenizer, TextTokenizer, read_added_tokens
from omni_jax.tokens.vocabulary import STYLE_PARTS, Vocabulary

IMAGE, PAD = "<image>", "<pad>"
# What a base's tokenizer consists of; `tokenizer.json` has the same content as the files before it in a release.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "added_tokens.json")
_UNIT = re.compile(r"<\|speech_(\d+)\|>")
_ROUND = 128  # rows of EMOVA's tables


def unit_name(unit: int) -> str:
  """Returns how EMOVA spells a unit."""
  return f"<|speech_{unit}|>"


def load_tokenizer(folder: pathlib.Path) -> TextTokenizer:
  """Returns the text tokenizer of a folder: `tokenizer.json`, or else `tokenizer.model`.

  Raises:
    UserError: neither is there, it is damaged, or `added_tokens.json` gives other ids than `tokenizer.json`.
  """
  path = folder / "tokenizer.json"
  if not path.is_file():
    return SentencePieceTokenizer.load(folder / "tokenizer.model")
  tokenizer, beside = HuggingFaceTokenizer.load(path), folder / "added_tokens.json"
  added = read_added_tokens(beside) if beside.is_file() else {}
  wrong = [
    f"{name}: {i}, not {tokenizer.specials.get(name)}" for name, i in added.items() if _differs(tokenizer, name, i)
  ]
  if wrong:
    raise UserError(
      f"{len(wrong)} tokens with other ids than in tokenizer.json: {'; '.join(wrong[:5])}",
      where=beside,
      rule="both files of a release give a token the same id",
      remedy="copy both files from one release",
    )
  return tokenizer


def read_unit_table(path: pathlib.Path) -> dict[str, int]:
  """Returns name -> id of the tokens that a release added, its scrambled units among them.

  Args:
    path: its `added_tokens.json` or `tokenizer.json`, or the folder of either.

  Raises:
    UserError: neither is there, or the file holds something else.
  """
  if path.is_dir():
    beside = path / "added_tokens.json"
    path = beside if beside.is_file() else path / "tokenizer.json"
  if not path.is_file():
    raise UserError(
      "no unit table",
      where=path,
      rule="a release states the ids of its units in added_tokens.json or tokenizer.json",
      remedy="copy the file of the release, or leave the table out to number units anew",
    )
  try:
    whole = "added_tokens" in json.loads(path.read_text(encoding="utf-8"))
  except ValueError:
    whole = False  # the reader of the short form says what is wrong
  return dict(HuggingFaceTokenizer.load(path).specials) if whole else read_added_tokens(path)


def extend_vocabulary(
  tokenizer: TextTokenizer,
  *,
  end: str,
  codebook_size: int = 4096,
  native: bool = True,
  multiple: int = _ROUND,
  table: Mapping[str, int] | None = None,
) -> Vocabulary:
  """Returns the vocabulary of a base tokenizer with units, an image place, padding, and what our layout needs.

  Units, `<image>` and `<pad>` that the tokenizer already has keep their ids; what it lacks is numbered from its end on.

  Args:
    tokenizer: of the base, or of a released EMOVA.
    end: the special token that ends an answer, `<|im_end|>` for Qwen2.
    codebook_size: number of units.
    native: whether to add the controls and styles of our layout, which released weights do not know.
    multiple: of which the number of rows is one.
    table: ids that units and other tokens are to have behind the tokenizer's own (`read_unit_table`); without one,
      what the tokenizer lacks is numbered.

  Raises:
    UserError: the tokenizer lacks `end`, its units are not 0 to codebook_size - 1, each once, or a table gives ids that
      are taken.
  """
  specials = dict(tokenizer.specials) | _given(table or {}, tokenizer)
  units = _released_units(specials, codebook_size)
  if table is not None and units is None:
    raise UserError(
      f"none of its {len(table)} tokens is a unit",
      where="unit table",
      rule=f"a unit is spelt {unit_name(0)}",
      remedy="give the file of a release that has units, or no table",
    )
  free = max([tokenizer.num_ids - 1, *specials.values()]) + 1
  if units is None:
    units, free = np.arange(free, free + codebook_size, dtype=np.int32), free + codebook_size
  names = [IMAGE, PAD] + (["heard", "answer", *STYLE_PARTS] if native else [])
  ids = {}
  for name in names:
    if name in specials:
      ids[name] = specials.pop(name)
    else:
      ids[name], free = free, free + 1
  if end not in specials:
    raise UserError(
      f"the tokenizer has no token {end!r}",
      where="vocabulary",
      rule=f"an answer ends with one of its special tokens: {', '.join(list(specials)[:12])}",
      remedy="choose the token of the template, or the tokenizer that the template belongs to",
    )
  text = {name: i for name, i in specials.items() if not _UNIT.fullmatch(name)}
  text_size = int(units.min())
  controls = {"pad": ids[PAD], "image": ids[IMAGE], "end": text[end]}
  controls |= {name: ids[name] for name in ("heard", "answer") if native}
  return Vocabulary(
    tokenizer_id=tokenizer.fingerprint,
    num_pieces=tokenizer.num_pieces,
    text_size=text_size,
    extra_size=-(-free // multiple) * multiple - text_size,
    controls=controls,
    styles={name: ids[name] for name in STYLE_PARTS} if native else {},
    unit_ids=units,
    specials=text,
    never=tuple(sorted(i for i in text.values() if i < tokenizer.num_pieces)),
  )


def added_names(vocabulary: Vocabulary) -> dict[str, int]:
  """Returns name -> id of everything behind the base's tokens, as other programs spell it."""
  controls = {IMAGE: vocabulary.control("image"), PAD: vocabulary.control("pad")}
  own = {f"<|{name}|>": i for name, i in vocabulary.controls.items() if name in ("heard", "answer")}
  styles = {f"<|{name}|>": i for name, i in vocabulary.styles.items()}
  units = {unit_name(unit): int(i) for unit, i in enumerate(vocabulary.unit_ids)}
  return units | controls | own | styles


def _given(table: Mapping[str, int], tokenizer: TextTokenizer) -> dict[str, int]:
  """Returns the tokens of a table that the tokenizer lacks.

  Raises:
    UserError: the two disagree.
  """
  own, taken = tokenizer.specials, set(tokenizer.specials.values())
  new = {name: i for name, i in table.items() if name not in own and not _is_piece(tokenizer, name, i)}
  wrong = [f"{name}: {i}, not {own[name]}" for name, i in table.items() if own.get(name, i) != i]
  wrong += [f"{name}: {i} is taken" for name, i in new.items() if i < tokenizer.num_pieces or i in taken]
  if wrong:
    raise UserError(
      f"{len(wrong)} ids that do not fit the tokenizer: {'; '.join(wrong[:5])}",
      where="unit table",
      rule=f"it gives the tokenizer's tokens their ids, and other tokens free ids from {tokenizer.num_pieces} on",
      remedy="give table and tokenizer of one base",
    )
  return new


def _is_piece(tokenizer: TextTokenizer, name: str, index: int) -> bool:
  return index < tokenizer.num_pieces and tokenizer.encode(name) == [index]


def _released_units(specials: Mapping[str, int], codebook_size: int) -> np.ndarray | None:
  """Returns the id of each unit that the tokenizer has, None if it has none."""
  found = [(int(match[1]), i) for name, i in specials.items() if (match := _UNIT.fullmatch(name))]
  if not found:
    return None
  missing = sorted(set(range(codebook_size)) - {unit for unit, _ in found})
  unknown = sorted({unit for unit, _ in found} - set(range(codebook_size)))
  repeated = len(found) - len({i for _, i in found}), len(found) - len({unit for unit, _ in found})
  if missing or unknown or any(repeated):
    raise UserError(
      f"{len(missing)} units missing ({_few(missing)}), {len(unknown)} unknown ({_few(unknown)}), "
      f"{repeated[0]} ids and {repeated[1]} units given twice",
      where="unit table of the tokenizer",
      rule=f"units 0 to {codebook_size - 1} have one id each, and no id has two",
      remedy="copy the tokenizer of the release again, or correct codebook_size",
    )
  table = np.empty(codebook_size, np.int32)
  for unit, i in found:
    table[unit] = i
  return table


def _differs(tokenizer: HuggingFaceTokenizer, name: str, index: int) -> bool:
  return tokenizer.specials.get(name, index if _is_piece(tokenizer, name, index) else None) != index


def _few(numbers: list[int]) -> str:
  return ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "") or "none"
