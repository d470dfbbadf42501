"""Views: which side of a record is asked and which is learned.

One record serves several views: a recording is a recognition sample and a synthesis sample, a spoken dialogue also a
written question with a spoken answer.

| view             | the user gives               | the model learns                                     |
| ---------------- | ---------------------------- | ---------------------------------------------------- |
| `text`           | text (nothing: one turn)     | text                                                 |
| `image_text`     | image, text if there is any  | text                                                 |
| `annotations`    | image, and several texts     | text for each, none seeing another                   |
| `recognise`      | speech                       | its transcript                                       |
| `synthesise`     | text and a style             | units                                                |
| `dialogue`       | speech, image if there is one| style, transcript, text and units                    |
| `spoken_reply`   | text, image if there is one  | style, text and units                                |
| `written_reply`  | speech, image if there is one| transcript and text (JSON layout: text alone)        |
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style
from omni_jax.prepare.schema import Example, Turn
from omni_jax.tokens.answers import Reply
from omni_jax.tokens.dialogue import Dialogue, Question
from omni_jax.tokens.grid import Grid
from omni_jax.tokens.units import reduce_units


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
  """What a view needs besides the record: the writer, the tokens its image takes, and whether styles are heard."""

  dialogue: Dialogue
  image_tokens: int
  hear_style: bool

  def written(self, turn: Turn) -> Question:
    """Returns the typed question of a turn."""
    return Question(text=turn.text, image_tokens=self.image_tokens)

  def spoken(self, turn: Turn) -> Question:
    """Returns the spoken question of a turn."""
    style = turn_style(turn.heard, turn, "heard") if self.hear_style else None
    return Question(image_tokens=self.image_tokens, units=_units(turn), style=style)

  def turns(self, example: Example) -> list[tuple["Scene", Turn, Turn]]:
    """Returns the exchanges of a conversation, each with what it may ask of: images are in front of the first."""
    later = dataclasses.replace(self, image_tokens=0)
    return [(later if number else self, *pair) for number, pair in enumerate(exchanges(example))]


def _text(example: Example, scene: Scene) -> Grid:
  if len(example.turns) == 1:
    return scene.dialogue.document(example.turns[0].text)
  return _image_text(example, scene)


def _image_text(example: Example, scene: Scene) -> Grid:
  pairs = [(now.written(user), Reply(text=answer.text)) for now, user, answer in scene.turns(example)]
  return scene.dialogue.conversation(pairs)


def _annotations(example: Example, scene: Scene) -> Grid:
  pairs = [(scene.written(user), Reply(text=answer.text)) for user, answer in exchanges(example)]
  return scene.dialogue.annotations(pairs)


def _recognise(example: Example, scene: Scene) -> Grid:
  turn = example.turns[0]
  return scene.dialogue.recognition(scene.spoken(turn), turn.text)


def _synthesise(example: Example, scene: Scene) -> Grid:
  turn = example.turns[-1]
  return scene.dialogue.synthesis(turn.text, turn_style(turn.style or turn.heard, turn, "style"), _units(turn))


def _dialogue(example: Example, scene: Scene) -> Grid:
  pairs = [(now.spoken(user), _spoken_answer(answer, heard=user)) for now, user, answer in scene.turns(example)]
  return scene.dialogue.conversation(pairs)


def _spoken_reply(example: Example, scene: Scene) -> Grid:
  pairs = [(now.written(user), _spoken_answer(answer, heard=None)) for now, user, answer in scene.turns(example)]
  return scene.dialogue.conversation(pairs)


def _written_reply(example: Example, scene: Scene) -> Grid:
  pairs = [
    (now.spoken(user), Reply(text=answer.text, heard_text=user.text)) for now, user, answer in scene.turns(example)
  ]
  return scene.dialogue.conversation(pairs)


VIEWS: dict[str, Callable[[Example, Scene], Grid]] = {
  "text": _text,
  "image_text": _image_text,
  "annotations": _annotations,
  "recognise": _recognise,
  "synthesise": _synthesise,
  "dialogue": _dialogue,
  "spoken_reply": _spoken_reply,
  "written_reply": _written_reply,
}


def _spoken_answer(turn: Turn, *, heard: Turn | None) -> Reply:
  return Reply(
    text=turn.text,
    style=turn_style(turn.style or turn.heard, turn, "style"),
    units=_units(turn),
    heard_text=heard.text if heard else "",
    heard_style=Style.parse(heard.heard) if heard and heard.heard else None,
  )


def exchanges(example: Example) -> list[tuple[Turn, Turn]]:
  """Returns the questions of a record, each with its answer.

  Raises:
    UserError: turns of another order.
  """
  users, answers = example.turns[0::2], example.turns[1::2]
  roles = [turn.role for turn in example.turns]
  if len(users) != len(answers) or set(roles[0::2]) != {"user"} or set(roles[1::2]) != {"assistant"}:
    raise lacks(f"turns of {', '.join(roles)}", "user and assistant take turns, the assistant last")
  return list(zip(users, answers, strict=True))


def _units(turn: Turn) -> np.ndarray:
  return reduce_units(turn_units(turn))[0]


def turn_style(name: str, turn: Turn, field: str) -> Style:
  """Returns the style `name` of a turn.

  Raises:
    UserError: it is empty, which `field` of the record must not be; or no style.
  """
  if not name:
    raise lacks(f"turn {turn.text!r} without {field}", "the record says the style of its speech")
  return Style.parse(name)


def exchange(example: Example) -> tuple[Turn, Turn]:
  """Returns the question and the answer of a record that has one of each.

  Raises:
    UserError: it has other turns.
  """
  roles = [turn.role for turn in example.turns]
  if roles != ["user", "assistant"]:
    raise lacks(f"turns of {', '.join(roles)}", "one question and one answer")
  return example.turns[0], example.turns[1]


def turn_units(turn: Turn) -> np.ndarray:
  """Returns the units of a turn, repetitions kept.

  Raises:
    UserError: it has none.
  """
  if not len(turn.units):
    raise lacks(f"turn {turn.text!r} without units", "speech was encoded to units")
  return turn.units


def lacks(what: str, rule: str) -> UserError:
  """Returns the error of a record that lacks what a view needs."""
  return UserError(what, where="record", rule=rule, remedy="run `omni encode`, or choose another view or set")
