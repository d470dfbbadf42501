"""What each id of a grid is called, and of which kind it is: for people.

4 -> text "dog"      330 -> control "user"      400 -> unit "17"      437 -> style "emotion-happy"
"""

from collections.abc import Callable
from typing import NamedTuple

from omni_jax.tokens.mini_omni import AUDIO_MARKS, STYLE_MARKS, TEXT_MARKS, MiniOmniLayout
from omni_jax.tokens.text import TextTokenizer
from omni_jax.tokens.vocabulary import NONE, STYLE, TEXT, UNIT, Vocabulary

KINDS = ("text", "unit", "style", "image", "heard", "control", "none")
_KINDS = {NONE: "none", TEXT: "text", UNIT: "unit", STYLE: "style"}


class Meaning(NamedTuple):
  """The kind of an id, one of KINDS, and its name: its text, the number of its unit, or what it is called."""

  kind: str
  name: str


Meanings = Callable[[int], Meaning]


def vocabulary_meanings(vocabulary: Vocabulary, tokenizer: TextTokenizer) -> Meanings:
  """Returns what says the meaning of an id of a vocabulary."""
  marks = {token: name for name, token in {**vocabulary.specials, **vocabulary.controls}.items()}
  styles = {token: name for name, token in vocabulary.styles.items()}
  image, kinds = vocabulary.controls.get("image"), vocabulary.kinds()
  units, is_piece = vocabulary.unit_of(), vocabulary.pieces()

  def meaning(token: int) -> Meaning:
    if token in marks:
      return Meaning("image" if token == image else "control", marks[token])
    if token in styles:
      return Meaning("style", styles[token])
    if units[token] >= 0:
      return Meaning("unit", str(units[token]))
    return Meaning(_KINDS[int(kinds[token])], _piece(token, tokenizer) if is_piece[token] else f"#{token}")

  return meaning


def layout_meanings(layout: MiniOmniLayout, tokenizer: TextTokenizer) -> Meanings:
  """Returns what says the meaning of an id of a grid with several rows, in whichever row it stands."""
  text = {layout.text_mark(name): Meaning("control", name) for name in TEXT_MARKS}
  text |= {layout.text_mark(name): Meaning("style", name) for name in STYLE_MARKS}
  audio = {layout.audio_mark(name): Meaning("control", name) for name in AUDIO_MARKS}
  audio |= {layout.place: Meaning("heard", "~")}

  def meaning(token: int) -> Meaning:
    if token < layout.text_size:
      known = text.get(token)
      spelt = Meaning("text", _piece(token, tokenizer)) if token < tokenizer.num_pieces else None
    else:
      entry = (token - layout.text_size) % layout.codebook_size
      known = audio.get(entry)
      spelt = Meaning("unit", str(entry)) if entry < layout.num_codes else None
    return known or spelt or Meaning("none", f"#{token}")

  return meaning


def _piece(token: int, tokenizer: TextTokenizer) -> str:
  return tokenizer.decode([token]).replace("\n", "⏎") or "␣"
