"""What may come next in an answer in EMOVA's JSON (`tokens.answers.JsonLayout`), so that every answer reads back.

    {"user question text": "...", "user question emotion": "sad", ..., "assistant response speech": "<units>"}

A machine over characters accepts the object, or a text that is none. Which characters a piece of text has is up to the
tokenizer, `"` and `, "` may be one piece or three, so each state is asked where every piece leads, and pieces that lead
to the same places from all states are one class. The original samples freely and repairs what it gets.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from omni_jax.core.styles import EMOTIONS, PITCHES
from omni_jax.generate.constraints import OVER, RULES, Automaton, compile_rules, token_classes
from omni_jax.tokens.answers import FOLDED, JSON_KEYS, SPEED_KEY, SPEEDS
from omni_jax.tokens.dialogue import Dialogue
from omni_jax.tokens.text import TextTokenizer

# States in which an answer begins: to a spoken question, and to a typed one, whose answer may be text alone.
OBJECT, OBJECT_OR_TEXT = "object", "object or text"

_UNITS, _MORE_UNITS, _CLOSED, _TEXT = "units", "units...", "closed", "text"
_DEAD = -1
_AT_ONCE = 4096  # pieces, so that 150,000 of a full tokenizer do not take as many columns at a time
_BLANK = " \n\t\r"
_PIECE = "piece"
_Characters = dict[str, dict[str, str]]  # state -> character -> state after it
_PRINTED, _CONTROL = "printed", "control"  # any other character, from the space on and before it


def json_automaton(dialogue: Dialogue) -> Automaton:
  """Returns the automaton of `RULES` and, from `object` and `object or text` on, that of answers in JSON."""
  vocabulary = dialogue.vocabulary
  of_tokens, characters = token_classes(vocabulary), _characters(spaced=dialogue.tokenizer.prefixes_space)
  pieces = of_tokens.pop(_PIECE)
  states = list(dict.fromkeys([*characters, *(after for row in characters.values() for after in row.values())]))
  columns: dict[bytes, list[int]] = {}  # where pieces lead to -> those pieces
  for piece, column in zip(pieces, _columns(characters, states, _texts(pieces, dialogue.tokenizer)), strict=True):
    columns.setdefault(column, []).append(piece)
  names = [f"{_PIECE} {number}" for number in range(len(columns))]
  of_tokens |= dict(zip(names, columns.values(), strict=True))
  rules: dict[str, dict[str, str]] = {state: _spread(after, names) for state, after in RULES.items()}
  rules |= {state: {} for state in states}
  for name, column in zip(names, columns, strict=True):
    following = np.frombuffer(column, np.int32)
    for state in np.flatnonzero(following != _DEAD).tolist():
      rules[states[state]][name] = states[following[state]]
  rules[_UNITS]["unit"] = rules[_MORE_UNITS]["unit"] = _MORE_UNITS
  rules[_CLOSED]["end"] = rules[_TEXT]["end"] = OVER
  return compile_rules(rules, of_tokens, size=vocabulary.size)


def _characters(*, spaced: bool) -> _Characters:
  """Returns the machine over the characters of an answer, units and the end left out.

  `spaced`: whether a text that follows units is written with a space before it.
  """
  machine: _Characters = {state: dict.fromkeys(_BLANK, state) for state in (OBJECT, OBJECT_OR_TEXT)}
  machine[OBJECT_OR_TEXT] |= {"{": f"{OBJECT} | {{", _PRINTED: _TEXT}
  machine[_TEXT] = dict.fromkeys((_PRINTED, _CONTROL), _TEXT)
  text, emotion, pitch, said, feeling, tone, speech = JSON_KEYS
  emotions, quoted = [*EMOTIONS, *FOLDED], '"'
  _spell(machine, OBJECT, [f'{{"{text}": "'], then=text)
  _string(machine, text, then=f"{text} closed")
  _spell(machine, f"{text} closed", [f', "{emotion}": "'], then=emotion)
  # Who types has no style.
  _spell(machine, emotion, [name + quoted for name in emotions], then=f"{emotion} closed")
  _spell(machine, emotion, [f'", "{pitch}": ""'], then=f"{pitch} closed")
  _spell(machine, f"{emotion} closed", [f', "{pitch}": "'], then=pitch)
  _spell(machine, pitch, [name + quoted for name in PITCHES], then=f"{pitch} closed")
  _spell(machine, f"{pitch} closed", [f', "{said}": "'], then=said)
  _string(machine, said, then=f"{said} closed")
  _spell(machine, f"{said} closed", [f', "{feeling}": "'], then=feeling)
  _spell(machine, feeling, [name + quoted for name in emotions], then=f"{feeling} closed")
  _spell(machine, f"{feeling} closed", [f', "{tone}": "'], then=tone)
  _spell(machine, tone, [name + quoted for name in PITCHES], then=f"{tone} closed")
  speeds = [f', "{SPEED_KEY}": "{speed}", "{speech}": "' for speed in SPEEDS]
  _spell(machine, f"{tone} closed", [f', "{speech}": "', *speeds], then=_UNITS)
  _spell(machine, _MORE_UNITS, ['"}', ' "}'] if spaced else ['"}'], then=_CLOSED)
  return machine


def _spell(machine: _Characters, state: str, texts: Iterable[str], *, then: str) -> None:
  """Adds that from `state` on one of some texts comes, none the beginning of another, and leads to `then`."""
  for text in texts:
    here = state
    for end, character in enumerate(text, start=1):
      after = then if end == len(text) else f"{state} | {text[:end]}"
      assert machine.setdefault(here, {}).setdefault(character, after) == after, (state, text)
      here = after


def _string(machine: _Characters, state: str, *, then: str) -> None:
  """Adds that in `state` the characters of a JSON string come, then its closing quote."""
  escape = f"{state} | escape"
  machine[state] = {_PRINTED: state, "\\": escape, '"': then}
  machine[escape] = dict.fromkeys('"\\/bfnrt', state)


def _columns(machine: _Characters, states: Sequence[str], texts: Sequence[str]) -> Iterator[bytes]:
  """Yields the column of each text: the number of the state behind it from each state, int32; -1 where none."""
  alphabet = sorted({character for row in machine.values() for character in row if len(character) == 1})
  kinds: Mapping[str, int] = {kind: number for number, kind in enumerate([*alphabet, _PRINTED, _CONTROL])}
  number_of = {state: number for number, state in enumerate(states)}
  table = np.full((len(states) + 1, len(kinds) + 1), _DEAD, np.int32)  # the last row is dead, the last column stays
  for state, row in machine.items():
    for kind, after in _whole_row(row, alphabet).items():
      table[number_of[state], kinds[kind]] = number_of[after]
  table[:, -1] = [*range(len(states)), _DEAD]
  for start in range(0, len(texts), _AT_ONCE):
    some = texts[start : start + _AT_ONCE]
    spelt = np.full((len(some), max(map(len, some))), len(kinds), np.int32)
    for place, text in enumerate(some):
      spelt[place, : len(text)] = [kinds.get(c, kinds[_PRINTED if c >= " " else _CONTROL]) for c in text]
    following = np.full((len(some), len(states)), _DEAD, np.int32)
    for state in range(len(states)):
      alive, here = np.flatnonzero([*map(len, some)]), state  # an empty text would go on for ever
      for column in spelt.T:
        here = table[here, column[alive]]
        alive, here = alive[here != _DEAD], here[here != _DEAD]
      following[alive, state] = here
    yield from (row.tobytes() for row in following)


def _whole_row(row: Mapping[str, str], alphabet: Iterable[str]) -> dict[str, str]:
  """Returns a row with the characters that "any other" stands for, where others know them by name."""
  spread = {
    character: row[kind] for character in alphabet if (kind := _PRINTED if character >= " " else _CONTROL) in row
  }
  return spread | dict(row)


def _texts(pieces: Sequence[int], tokenizer: TextTokenizer) -> list[str]:
  """Returns the text that each piece adds to one before it; bytes that are a part of a character are U+FFFD."""
  before = tokenizer.encode("a")
  length = len(tokenizer.decode(before))
  return [tokenizer.decode([*before, piece])[length:] for piece in pieces]


def _spread(after: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
  """Returns the rules of a state with every class of pieces in the place of `piece`."""
  rest = {name: state for name, state in after.items() if name != _PIECE}
  return rest | (dict.fromkeys(names, after[_PIECE]) if _PIECE in after else {})
