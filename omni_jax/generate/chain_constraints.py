"""What may come next in an answer of SpeechGPT: whatever is written reads back, whoever the model is.

    [tq] words... ; [ta] words... ; [ua] <sosp> units... <eosp> <eoa>. </s>        speech to speech

Its markers `[tq]`, `[ta]`, `[ua]` and `<eoa>` are ordinary text of several pieces. The model chooses where each begins;
from its sign (`[` or `<`) on, the pieces of the marker are the only ones allowed, and a sign cannot come anywhere else.
So each answer has its parts once and in order, words are never blank, and units stand between their marks only. The
original samples freely: stray markers and answers without an end are what its users report (issue 12).
"""

from collections.abc import Sequence

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.generate.constraints import OVER, Automaton, compile_rules
from omni_jax.tokens.speech_gpt import UNITS_CLOSE, UNITS_OPEN, Chain, Side, SpeechGPTWriter

# States in which the answers of the cross-modal tasks begin; those of chains have the chain's own name.
WRITES, SAYS = "write", "say"

_SIGNS = "[<"
_WORD, _UNIT = "a", np.array([0], np.int32)


def chain_state(chain: Chain) -> str:
  """Returns the state in which an answer of a chain begins."""
  return chain.name.lower()


def cross_modal_automaton(writer: SpeechGPTWriter) -> Automaton:
  """Returns the rules of recognition and written answers (`write`), and of synthesis (`say`).

  Raises:
    UserError: a tokenizer in whose pieces a marker cannot be told from its neighbours.
  """
  rules = _Rules(writer)
  written, spoken = writer.answer([_WORD]), writer.answer(writer.speech(_UNIT))
  rules.words(WRITES, marker=rules.ending(written), then="ending")
  rules.speech(SAYS, spoken)
  rules.end("ending")
  return rules.compiled()


def chain_automaton(writer: SpeechGPTWriter) -> Automaton:
  """Returns the rules of all chains of modality; raises as `cross_modal_automaton`."""
  rules = _Rules(writer)
  for chain in Chain:
    ids = writer.answer(writer.chain(chain, Side(_WORD, _UNIT), Side(_WORD, _UNIT if chain.speaks else None)))
    name, answered = chain_state(chain), rules.find(ids, "[ta]")
    hears, answers, speaks = (f"{name}: {part}" for part in ("hears", "answers", "speaks"))
    if chain.hears:
      marked = writer.template.marks_question
      rules.literal(name, _up_to(ids, rules.find(ids, "[tq]")) if marked else [], then=hears)
      rules.words(hears, marker=answered, then=answers)
    else:
      rules.literal(name, _up_to(ids, answered), then=answers)
    if chain.speaks:
      spoken = rules.find(ids, "[ua]")
      rules.words(answers, marker=spoken, then=speaks)
      rules.speech(speaks, ids[len(_up_to(ids, spoken)) :])
    else:
      rules.words(answers, marker=rules.ending(ids), then="ending")
  rules.end("ending")
  return rules.compiled()


class _Rules:
  """Rules that grow state by state; tokens of markers are classes of their own."""

  def __init__(self, writer: SpeechGPTWriter):
    vocabulary = writer.vocabulary
    self._vocabulary, self._decode = vocabulary, writer.tokenizer.decode
    self._opens, self._closes = vocabulary.specials[UNITS_OPEN], vocabulary.specials[UNITS_CLOSE]
    texts = {i: self._decode([i]) for i in np.flatnonzero(vocabulary.pieces()).tolist()}
    self._signs = {i for i, text in texts.items() if any(sign in text for sign in _SIGNS)}
    self._blanks = {i for i, text in texts.items() if not text.strip()}
    self._of_tokens = {
      "piece": sorted(texts.keys() - self._signs - self._blanks),
      "blank": sorted(self._blanks),
      "unit": vocabulary.unit_ids.tolist(),
      "opens": [self._opens],
      "closes": [self._closes],
      "end": [vocabulary.control("end")],
    }
    self._rules: dict[str, dict[str, str]] = {OVER: {"end": OVER}}
    self._free: list[str] = []

  def find(self, ids: Sequence[int], marker: str) -> list[int]:
    """Returns the pieces of a marker in an answer: the shortest run that is the marker and nothing else."""
    own = {self._opens, self._closes, *self._vocabulary.unit_ids.tolist(), self._vocabulary.control("end")}
    for length in range(1, len(marker) + 2):
      for start in range(len(ids) - length + 1):
        run = [*ids[start : start + length]]
        if not own & set(run) and self._decode(run).strip() == marker:
          return run
    raise UserError(
      f"the marker {marker!r}",
      where="tokenizer",
      rule="the pieces of a marker are its own, apart from the words beside it",
      remedy="take the tokenizer of the release, or one trained on text without brackets",
    )

  def ending(self, ids: Sequence[int]) -> list[int]:
    """Returns the end of a written answer, from its sign up to the end of the sequence, which is left out."""
    return [*ids[len(_up_to(ids, self.find(ids, "<eoa>"))) - len(self.find(ids, "<eoa>")) : -1]]

  def literal(self, state: str, ids: Sequence[int], *, then: str) -> None:
    """Adds that from `state` on these ids lead to `then`; without any, `state` is another name of `then`."""
    if not ids:
      self._rules[state] = self._rules.setdefault(then, {})
    names = [state, *(f"{state} {number}" for number in range(1, len(ids))), then]
    for here, i, after in zip(names, ids, names[1:], strict=False):
      self._rules.setdefault(here, {})[self._class(i)] = after

  def words(self, state: str, *, marker: Sequence[int], then: str) -> None:
    """Adds that in `state` words come, at least one piece that is not blank, then a marker."""
    more = f"{state}..."
    self._rules.setdefault(state, {}).update(piece=more, blank=state)
    self._rules[more] = {"piece": more, "blank": more}
    self._free += [state, more]
    self.literal(more, marker, then=then)

  def speech(self, state: str, ids: Sequence[int]) -> None:
    """Adds that from `state` on speech comes, then the end of the answer, as in `ids`, the rest of an answer."""
    opened, units, closed = (f"{state}: {part}" for part in ("opened", "units", "closed"))
    before, behind = ids.index(self._opens), ids.index(self._closes) + 1
    self.literal(state, ids[: before + 1], then=opened)
    self._rules |= {opened: {"unit": units}, units: {"unit": units, "closes": closed}}
    self.literal(closed, ids[behind:-1], then="ending")

  def end(self, state: str) -> None:
    """Adds that in `state` the sequence ends."""
    self._rules.setdefault(state, {})["end"] = OVER

  def compiled(self) -> Automaton:
    """Returns the automaton; pieces of markers without a sign are words like any other where words come."""
    own = {name: ids[0] for name, ids in self._of_tokens.items() if name.startswith("id ")}
    for after in (self._rules[state] for state in self._free):
      for name, i in own.items():
        if name not in after and i not in self._signs:
          after[name] = after["blank" if i in self._blanks else "piece"]
    return compile_rules(self._rules, self._of_tokens, size=self._vocabulary.size)

  def _class(self, token: int) -> str:
    if token == self._opens:
      return "opens"
    self._of_tokens[f"id {token}"] = [token]
    return f"id {token}"


def _up_to(ids: Sequence[int], run: Sequence[int]) -> list[int]:
  """Returns `ids` up to the end of a run of them."""
  starts = (start for start in range(len(ids)) if [*ids[start : start + len(run)]] == [*run])
  return [*ids[: next(starts) + len(run)]]
