"""The ids of everything that is not plain text, read from a file and never computed (EMOVA's are scrambled).

    0 ................ text_size .............................. text_size + extra_size
    | text pieces | unused | controls | units ........... | styles | unused |
    '------- the text table ---------' '---------- the extra table ---------'

Control tokens live in the text table, so that text can be learned before the extra table exists. Row `u` of the extra
table is unit `u` in vocabularies made here; readers use `unit_ids` all the same.

A vocabulary that extends a released tokenizer (`tokens.extension`) keeps that tokenizer's special tokens, which are the
controls of its templates, and has its own controls behind the units, or none of those it does not need.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.core.styles import EMOTIONS, GENDERS, PITCHES
from omni_jax.tokens.text import TextTokenizer

# Order is meaning: the id of a control in a new vocabulary counts from the end of the text table.
CONTROLS = (
  "pad",
  "image",  # stands for one merged patch
  "start",  # begins a document, or a ChatML turn
  "end",  # ends a turn
  "system",
  "user",
  "assistant",
  "heard",  # what follows in the answer is the transcript of the user
  "answer",  # what follows in the answer is the answer itself
  "transcribe",  # a request: write the speech that follows
  "say",  # a request: speak the text that follows
)
NEEDED = ("pad", "end")  # in every vocabulary; a released template spells the others in its own tokens
STYLE_PARTS = tuple(
  f"{part}-{value}"
  for part, values in (("gender", GENDERS), ("emotion", EMOTIONS), ("pitch", PITCHES))
  for value in values
)

# Kinds of token, as in a batch's `target_kind`.
NONE, TEXT, UNIT, STYLE = 0, 1, 2, 3

_ROUND = 16  # tables come in multiples of this, so that they divide over devices


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Vocabulary:
  """Names and ids, in both directions."""

  tokenizer_id: str  # fingerprint of the text tokenizer these ids belong to
  num_pieces: int  # ids below this are the text tokenizer's
  text_size: int  # rows of the text table
  extra_size: int  # rows of the extra table
  controls: Mapping[str, int]
  styles: Mapping[str, int]  # 'emotion-happy' -> id
  unit_ids: np.ndarray  # int32 [codebook size]
  specials: Mapping[str, int] = dataclasses.field(default_factory=dict)  # of a released tokenizer: '<|im_end|>' -> id
  never: tuple[int, ...] = (0,)  # ids below num_pieces that text never gives, here <unk>

  def __post_init__(self):
    problems = self._problems()
    if problems:
      raise UserError(
        "; ".join(problems),
        where="vocabulary",
        rule="every name has its own id: controls outside the pieces, units and styles inside the extra table",
        remedy="build the vocabulary again, or repair the file",
      )

  def _problems(self) -> list[str]:
    problems = []
    needed = NEEDED if self.specials else CONTROLS
    styles = STYLE_PARTS if self.styles else ()  # released vocabularies have none
    for title, given, wanted, known in (
      ("control", self.controls, needed, CONTROLS),
      ("style", self.styles, styles, STYLE_PARTS),
    ):
      missing, unknown = sorted(set(wanted) - set(given)), sorted(set(given) - set(known))
      problems += [f"{title} tokens missing: {', '.join(missing)}"] if missing else []
      problems += [f"unknown {title} tokens: {', '.join(unknown)}"] if unknown else []
    extra = [*self.styles.values(), *self.unit_ids.tolist()]
    # A control may be a special of the base under another name, so specials count once with them.
    ids = [*{*self.controls.values(), *self.specials.values()}, *extra]
    twice = len(ids) - len(set(ids)) + len(self.controls) - len(set(self.controls.values()))
    if twice:
      problems.append(f"{twice} ids are used twice")
    named = {**self.specials, **self.controls}
    pieces = set(range(self.num_pieces)) - (set(self.never) & set(self.specials.values()))
    outside = [name for name, i in named.items() if i in pieces or not 0 <= i < self.size]
    if not self.specials:
      outside += [name for name, i in self.controls.items() if i >= self.text_size]
    outside += [str(i) for i in extra if not self.text_size <= i < self.size]
    if outside:
      problems.append(f"{len(outside)} ids outside their table, first {outside[0]}")
    return problems

  @property
  def size(self) -> int:
    """Number of ids: the width of the logits."""
    return self.text_size + self.extra_size

  @property
  def codebook_size(self) -> int:
    """Number of speech units."""
    return len(self.unit_ids)

  def control(self, name: str) -> int:
    """Returns the id of a control token."""
    if name not in self.controls:
      raise UserError(
        f"unknown control token {name!r}",
        where="vocabulary",
        rule=f"control tokens are {', '.join(self.controls)}",
        remedy="choose one of these, or a template and layout that need no other",
      )
    return self.controls[name]

  def named(self) -> dict[str, int]:
    """Returns the tokens that a template may spell: those of a released tokenizer, or our controls as `<|name|>`."""
    return dict(self.specials) if self.specials else {f"<|{name}|>": i for name, i in self.controls.items()}

  def pieces(self) -> np.ndarray:
    """Returns bool [size]: the ids that text is made of."""
    pieces = np.arange(self.size) < self.num_pieces
    pieces[list(self.never)] = False
    return pieces

  def used(self) -> np.ndarray:
    """Returns bool [size]: the ids that mean something; the others are padding of the tables, never to be written."""
    used = self.pieces()
    for ids in (self.controls.values(), self.specials.values(), self.styles.values(), self.unit_ids):
      used[np.fromiter(ids, np.int64)] = True
    return used

  def kinds(self) -> np.ndarray:
    """Returns int8 [size]: NONE (a row that means nothing), TEXT (pieces and controls), UNIT or STYLE for each id."""
    kinds = np.full(self.size, NONE, np.int8)
    kinds[: self.num_pieces] = TEXT
    kinds[[*self.controls.values(), *self.specials.values()]] = TEXT
    kinds[list(self.styles.values())] = STYLE
    kinds[self.unit_ids] = UNIT
    return kinds

  def unit_of(self) -> np.ndarray:
    """Returns int32 [size]: the unit that each id stands for, -1 for other ids."""
    units = np.full(self.size, -1, np.int32)
    units[self.unit_ids] = np.arange(self.codebook_size)
    return units

  def fingerprint(self) -> str:
    """Returns twelve hexadecimal digits that change with any id."""
    return hashlib.sha256(json.dumps(self._json(), sort_keys=True).encode()).hexdigest()[:12]

  def save(self, path: pathlib.Path) -> None:
    """Writes the file, all or nothing."""
    write_whole(path, json.dumps(self._json(), indent=1) + "\n")

  @classmethod
  def load(cls, path: pathlib.Path) -> "Vocabulary":
    """Returns the vocabulary stored at `path`."""
    if not path.is_file():
      raise UserError(
        "no vocabulary",
        where=path,
        rule="the vocabulary is built before anything reads or writes tokens",
        remedy="run `omni vocabulary` on this workdir first",
      )
    try:
      data: dict[str, Any] = json.loads(path.read_text())
      given = {"unit_ids": np.asarray(data["unit_ids"], np.int32), "never": tuple(data.get("never", (0,)))}
      return cls(**{**data, **given})
    except (ValueError, TypeError, KeyError) as error:
      raise UserError(
        f"cannot read the vocabulary ({error})",
        where=path,
        rule=f"a JSON object with {', '.join(field.name for field in dataclasses.fields(cls))}",
        remedy="build the vocabulary again",
      ) from error

  def _json(self) -> dict[str, Any]:
    data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    data |= {"unit_ids": self.unit_ids.tolist(), "controls": dict(self.controls), "styles": dict(self.styles)}
    # Left out where they say nothing, so that vocabularies written before they existed keep their fingerprint.
    later = {"specials": dict(self.specials), "never": list(self.never)} if self.specials else {}
    return {name: value for name, value in data.items() if name not in ("specials", "never")} | later


def make_vocabulary(tokenizer: TextTokenizer, *, text_size: int, codebook_size: int = 4096) -> Vocabulary:
  """Returns a new vocabulary; ids of controls, units and styles depend on `text_size` and `codebook_size` only.

  Args:
    tokenizer: of the text.
    text_size: rows of the text table, room for the pieces and the controls.
    codebook_size: number of speech units.
  """
  num_pieces, first = tokenizer.num_pieces, text_size - len(CONTROLS)
  if num_pieces > first:
    raise UserError(
      f"{num_pieces} pieces and {len(CONTROLS)} controls do not fit {text_size} rows",
      where="text_size",
      rule=f"text_size is at least pieces + {len(CONTROLS)}",
      remedy=f"take text_size >= {num_pieces + len(CONTROLS)}, or fewer pieces",
    )
  return Vocabulary(
    tokenizer_id=tokenizer.fingerprint,
    num_pieces=num_pieces,
    text_size=text_size,
    extra_size=extra_size(codebook_size),
    controls=control_ids(text_size),
    styles={name: text_size + codebook_size + i for i, name in enumerate(STYLE_PARTS)},
    unit_ids=text_size + np.arange(codebook_size, dtype=np.int32),
  )


def control_ids(text_size: int) -> dict[str, int]:
  """Returns the control ids of a new vocabulary with this many text rows; a model config may need `image`."""
  return {name: text_size - len(CONTROLS) + i for i, name in enumerate(CONTROLS)}


def extra_size(codebook_size: int = 4096) -> int:
  """Returns the rows of the extra table of a new vocabulary: units, styles, and padding to a multiple of sixteen."""
  return -(-(codebook_size + len(STYLE_PARTS)) // _ROUND) * _ROUND
