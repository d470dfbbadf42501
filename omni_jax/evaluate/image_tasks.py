"""Questions about images, written and spoken: by kind of question, beside guessing, blindness and a cascade."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from omni_jax.evaluate import baselines, scores
from omni_jax.evaluate.context import Context, sound
from omni_jax.evaluate.dialogue_tasks import heard_figures, is_right
from omni_jax.evaluate.figures import Figure, Goal, Outcome, at_least
from omni_jax.evaluate.system import System
from omni_jax.generate.exchange import Answer, Question
from omni_jax.prepare.schema import Example

_IMAGE_GOAL = at_least(0.90)
_SPOKEN_GOAL = at_least(0.75)


def images(context: Context) -> Outcome:
  """Returns the accuracy of written questions about held-out images, by kind of question."""
  examples = context.examples("images", "test", limit=context.settings.questions, keep=_is_question)
  questions = [_written(example) for example in examples]
  answers = context.system.answer(questions)
  blind = context.system.answer([Question(text=question.text) for question in questions], "blind")
  training = _training(context)
  rows: dict[str, list[bool]] = {"right": _right(answers, examples), "blind": _right(blind, examples)}
  if context.without_triples:
    rows["without triples"] = _right(context.without_triples.answer(questions, "without triples"), examples)
  figures = _by_kind("image questions", examples, rows, training=training, goal=_IMAGE_GOAL)
  samples = [_sample(context, "images", row, *pair) for row, pair in enumerate(zip(examples, answers, strict=True))]
  for row, sample in enumerate(samples):
    sample["blind"] = blind[row].text
  return Outcome(figures=tuple(figures), samples=tuple(samples))


def spoken_images(context: Context) -> Outcome:
  """Returns the accuracy of spoken questions about held-out images, answered aloud."""
  examples = context.examples("spoken_images", "test", limit=context.settings.spoken_questions)
  recordings = [sound(example.turns[0]) for example in examples]
  # Only the first answers are made into sound, to be played in the report: the figures need the words.
  spoken = [
    Question(waveform=waveform, image=example.image, speak=row < context.settings.kept_sounds)
    for row, (waveform, example) in enumerate(zip(recordings, examples, strict=True))
  ]
  answers = context.system.answer(spoken)
  blind = context.system.answer([Question(waveform=waveform, speak=False) for waveform in recordings], "blind")
  recognised, cascade = _cascade(context.system, recordings, examples)
  written = context.system.answer([_written(example) for example in examples], "asked in writing")
  rows: dict[str, list[bool]] = {
    "right": _right(answers, examples),
    "blind": _right(blind, examples),
    "cascade": _right(cascade, examples),
    "asked in writing": _right(written, examples),
  }
  others: list[Figure] = []
  if context.without_triples:
    pairs_only = context.without_triples.answer([dataclasses.replace(question, speak=False) for question in spoken])
    rows["without triples"] = _right(pairs_only, examples)
    others.append(_without_triples(context, context.without_triples, rows, examples))
  figures = _by_kind("spoken image questions", examples, rows, training=_training(context), goal=_SPOKEN_GOAL)
  name, note = (
    "spoken image questions, the user's words inside the answer",
    "cascade: the same recording by the recognition task, without the image",
  )
  heard = heard_figures(name, examples, answers, recognised, note=note)
  figures += [*others, *heard, _failures(answers)]
  samples = [
    _sample(context, "spoken_images", row, *pair) for row, pair in enumerate(zip(examples, answers, strict=True))
  ]
  for row, sample in enumerate(samples):
    sample |= {"recognised": recognised[row], "cascade": cascade[row].text, "blind": blind[row].text}
    if row < context.settings.kept_sounds:
      sample |= context.keep_exchange(f"spoken_images-{row}", question=recordings[row], answer=answers[row].waveform)
  return Outcome(figures=tuple(figures), samples=tuple(samples))


def kind_of(example: Example) -> str:
  """Returns the kind of a question and of its picture, `color, scene two`, as the corpus names them in the id."""
  return _kinds_of(example)[0]


def _kinds_of(example: Example) -> list[str]:
  """Returns the kind of every exchange of a record."""
  kinds, *rest = example.id.split("/")
  scene = f", scene {rest[0]}" if len(rest) > 1 else ""
  return [kind + scene for kind in kinds.split("+")] if rest else ["question"] * (len(example.turns) // 2)


def _cascade(system: System, recordings: Sequence, examples: Sequence[Example]) -> tuple[list[str], list[Answer]]:
  recognised = system.recognise(recordings)
  questions = [Question(text=text, image=e.image) for text, e in zip(recognised, examples, strict=True)]
  return recognised, system.answer(questions, "cascade")


def _by_kind(
  name: str,
  examples: Sequence[Example],
  rows: dict[str, list[bool]],
  *,
  training: list[tuple[str, str]],
  goal: Goal,
) -> list[Figure]:
  """Returns one figure for all questions and one for each kind."""
  references = [(kind_of(example), example.turns[-1].text) for example in examples]
  kinds = sorted({kind for kind, _ in references})
  figures = []
  for kind in (None, *kinds):
    chosen = [row for row, reference in enumerate(references) if kind in (None, reference[0])]
    majority, chance = baselines.majority_by_kind(training, [references[row] for row in chosen])
    compared = {other: scores.mean([right[row] for row in chosen]) for other, right in rows.items() if other != "right"}
    figures.append(
      Figure(
        name=f"{name}, {'all kinds' if kind is None else kind}",
        measure="accuracy",
        score=scores.mean([rows["right"][row] for row in chosen]),
        baselines={"chance": chance, "majority": majority, **compared},
        goal=goal if kind is None else None,
        detail=kind is not None,
        note="blind: the same model without the image; chance and majority know the kind of question",
      )
    )
  return figures


def _without_triples(
  context: Context, system: System, rows: dict[str, list[bool]], examples: Sequence[Example]
) -> Figure:
  _, cascade = _cascade(system, [sound(example.turns[0]) for example in examples], examples)
  references = [(kind_of(example), example.turns[-1].text) for example in examples]
  majority, chance = baselines.majority_by_kind(_training(context), references)
  return Figure(
    name="spoken image questions, trained without any three-modality sample",
    measure="accuracy",
    score=scores.mean(rows["without triples"]),
    baselines={
      "chance": chance,
      "majority": majority,
      "with triples": scores.mean(rows["right"]),
      "cascade": scores.mean(_right(cascade, examples)),
    },
    note="the model never met an image and speech together; cascade: the same model, asked what it recognised",
  )


def _failures(answers: Sequence[Answer]) -> Figure:
  return Figure(
    name="spoken image questions: answers that break their layout (counted as wrong)",
    measure="failures",
    score=scores.mean([bool(answer.problem) for answer in answers]),
  )


def _training(context: Context) -> list[tuple[str, str]]:
  def read() -> list[tuple[str, str]]:
    limit = context.settings.baseline_samples
    known = []
    for example in context.examples("images", "train", limit=limit):
      answers = [turn.text for turn in example.turns if turn.role == "assistant"]
      known += zip(_kinds_of(example), answers, strict=True)
    return known

  return context.once("image answers", read)


def _is_question(example: Example) -> bool:
  return example.task == "visual_question"


def _written(example: Example) -> Question:
  return Question(text=example.turns[0].text, image=example.image)


def _right(answers: Sequence[Answer], examples: Sequence[Example]) -> list[bool]:
  return [is_right(answer, example.turns[-1].text) for answer, example in zip(answers, examples, strict=True)]


def _sample(context: Context, task: str, row: int, example: Example, answer: Answer) -> dict[str, Any]:
  question = example.turns[0]
  sample: dict[str, Any] = {
    "id": example.id,
    "kind": kind_of(example),
    "question": question.text,
    "reference": example.turns[-1].text,
    "answer": answer.text,
    "heard": answer.heard_text,
    "answer_style": str(answer.style or ""),
    "problem": answer.problem,
    "right": is_right(answer, example.turns[-1].text),
  }
  if row < 2 * context.settings.kept_sounds:
    sample["image"] = context.keep_image(f"{task}-{row}", example.image)
  return sample
