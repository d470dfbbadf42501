"""Tasks on spoken dialogue: the right words, the right style, and whether the user's emotion is heard."""

import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from omni_jax.core.styles import EMOTIONS, PITCHES
from omni_jax.evaluate import baselines, scores
from omni_jax.evaluate.context import Context, sound, style_of
from omni_jax.evaluate.figures import Figure, Outcome, at_least
from omni_jax.generate.exchange import Ability, Answer, Question
from omni_jax.prepare.schema import Example
from omni_jax.prepare.sentences import EMOTION_WORDS

_EMOTION_GOAL = at_least(0.60)


def dialogue(context: Context) -> Outcome:
  """Returns how often a spoken question gets the right words and the right reply style."""
  limit = context.settings.dialogues
  replies = dialogue_answers(context, limit=limit)
  examples, answers = [example for example, _ in replies], [answer for _, answer in replies]
  references = [example.turns[-1].text for example in examples]
  recordings = [sound(example.turns[0]) for example in examples]
  recognised = context.system.recognise(recordings)
  cascade = context.system.answer([Question(text=text) for text in recognised], "cascade")
  told = context.system.answer([Question(text=example.turns[0].text) for example in examples], "asked in writing")
  training = context.examples("dialogue", "train", limit=context.settings.baseline_samples)
  right, *others = (
    [is_right(*pair) for pair in zip(given, references, strict=True)] for given in (answers, cascade, told)
  )
  compared = {"cascade": others[0], "asked in writing": others[1]}
  figures = _answer_figures(examples, training, right, compared)
  figures += heard_figures("words of the user inside the answer", examples, answers, recognised)
  if Ability.HEARS_STYLES in context.system.abilities:
    figures += _style_figures(examples, answers, training)
  figures.append(_failures("dialogue", answers))
  samples = [_sample(context, "dialogue", row, *reply) for row, reply in enumerate(replies)]
  for row, sample in enumerate(samples):
    sample |= {"cascade": cascade[row].text, "recognised": recognised[row], "right": right[row]}
  return Outcome(figures=tuple(figures), samples=tuple(samples))


def emotion_heard(context: Context) -> Outcome:
  """Returns whether the same words in another emotion get another answer, with and without the heard style."""
  examples = _whole_pairs(context)
  recordings = [sound(example.turns[0]) for example in examples]
  truth = [style_of(example.turns[0]).emotion for example in examples]
  # Only the first answers are made into sound, to be played in the report: the figures need words and styles.
  aloud = [Question(waveform=w, speak=row < context.settings.kept_sounds) for row, w in enumerate(recordings)]
  answers = context.system.answer(aloud, "with heard style")
  deaf = context.system.answer(
    [Question(waveform=waveform, hear_style=False, speak=False) for waveform in recordings], "without heard style"
  )
  recognised = context.system.recognise(recordings)
  cascade = context.system.answer([Question(text=text) for text in recognised], "cascade")
  heard = [style.emotion for style in context.system.hear(recordings)]
  named = {
    "with": [named_emotion(answer) for answer in answers],
    "without": [named_emotion(answer) for answer in deaf],
    "cascade": [named_emotion(answer) for answer in cascade],
  }
  shared = {"chance": 1 / len(EMOTION_WORDS), "majority": _most_frequent(truth)}
  right = {name: scores.mean(_equal(given, truth)) for name, given in named.items()}
  pairs = _pairs(examples)
  figures = [
    Figure(
      name="the user's emotion is named in the answer (with heard style tokens)",
      measure="accuracy",
      score=right["with"],
      baselines=shared | {"without heard style": right["without"], "cascade": right["cascade"]},
      goal=_EMOTION_GOAL,
      note=f"the same words in several emotions, {len(pairs)} sentences; named by {', '.join(EMOTION_WORDS.values())}",
    ),
    Figure(
      name="the user's emotion is named in the answer (heard style tokens removed)",
      measure="accuracy",
      score=right["without"],
      baselines=shared,
      note="should fall to chance: the words alone do not tell",
    ),
    Figure(
      name="the user's emotion, by the style encoder alone",
      measure="accuracy",
      score=scores.mean(_equal(heard, truth)),
      baselines=shared,
    ),
    *_reply_style_figures(examples, answers, deaf),
    *_pair_figures(pairs, named, answers, deaf),
  ]
  samples = [
    _sample(context, "emotion_heard", row, *pair) for row, pair in enumerate(zip(examples, answers, strict=True))
  ]
  for row, sample in enumerate(samples):
    sample |= {
      "user_emotion": truth[row],
      "encoder_heard": heard[row],
      "named": named["with"][row],
      "named_without": named["without"][row],
      "answer_without": deaf[row].text,
    }
  matrix = {
    "labels": list(EMOTIONS),
    "counts": confusion(truth, named["with"], EMOTIONS),
    "columns": "named in the answer",
  }
  return Outcome(figures=tuple(figures), samples=tuple(samples), tables={"confusion of the user's emotion": matrix})


def dialogue_answers(context: Context, *, limit: int) -> list[tuple[Example, Answer]]:
  """Returns test dialogues with the assistant's spoken answers; made once and shared between tasks."""

  def make() -> list[tuple[Example, Answer]]:
    most = max(context.settings.dialogues, context.settings.recognised)
    examples = context.examples("dialogue", "test", limit=most)
    questions = [Question(waveform=sound(example.turns[0])) for example in examples]
    return list(zip(examples, context.system.answer(questions), strict=True))

  return context.once("dialogue answers", make)[:limit]


def is_right(answer: Answer, reference: str) -> bool:
  """Whether an answer kept its layout and says the reference words."""
  return not answer.problem and scores.same_text(reference, answer.text)


def named_emotion(answer: Answer) -> str:
  """Returns the one emotion whose word the answer contains; empty if none, several, or a broken layout."""
  words = set(scores.normalise(answer.text).split())
  found = [emotion for emotion, word in EMOTION_WORDS.items() if word in words]
  return found[0] if len(found) == 1 and not answer.problem else ""


def confusion(truth: Sequence[str], given: Sequence[str], labels: Sequence[str]) -> list[list[int]]:
  """Returns counts, one row for each true label, one column for each label and a last one for anything else."""
  counts = np.zeros((len(labels), len(labels) + 1), int)
  for true, named in zip(truth, given, strict=True):
    counts[labels.index(true), labels.index(named) if named in labels else -1] += 1
  return counts.tolist()


def _answer_figures(
  examples: Sequence[Example], training: Sequence[Example], right: Sequence[bool], compared: dict[str, list[bool]]
) -> list[Figure]:
  """Returns one figure for all dialogues and one for each kind, as the corpus names it in the id."""
  kinds = [example.id.partition("/")[0] for example in examples]
  figures = []
  for kind in (None, *sorted(set(kinds))):
    rows = [row for row, other in enumerate(kinds) if kind in (None, other)]
    references = [examples[row].turns[-1].text for row in rows]
    known = [e.turns[-1].text for e in training if kind in (None, e.id.partition("/")[0])]
    known = known or [e.turns[-1].text for e in training]
    figures.append(
      Figure(
        name=f"spoken question, answer in the right words, {kind or 'all kinds'}",
        measure="accuracy",
        score=scores.mean([right[row] for row in rows]),
        baselines={
          "chance": baselines.chance_accuracy(known, references),
          "majority": baselines.majority_accuracy(known, references),
          **{name: scores.mean([given[row] for row in rows]) for name, given in compared.items()},
        },
        note="cascade: recognise, then answer the recognised text; neither it nor writing carries the user's emotion",
      )
    )
  return figures


def heard_figures(
  name: str, examples: Sequence[Example], answers: Sequence[Answer], recognised: Sequence[str], *, note: str = ""
) -> list[Figure]:
  """Returns how well answers write down the question; no figure of a system that never writes down what it heard."""
  if not any(answer.heard_text for answer in answers):
    return []
  texts = [example.turns[0].text for example in examples]
  compared = {"cascade": scores.word_errors(texts, recognised).score, "chance": baselines.chance_errors(texts).score}
  score = scores.word_errors(texts, [answer.heard_text for answer in answers]).score
  return [Figure(name=name, measure="WER", score=score, baselines=compared, note=note)]


def _style_figures(examples: Sequence[Example], answers: Sequence[Answer], training: Sequence[Example]) -> list[Figure]:
  figures = []
  for part, labels in (("emotion", EMOTIONS), ("pitch", PITCHES)):
    truth = [getattr(style_of(example.turns[-1]), part) for example in examples]
    given = [getattr(answer.style, part) if answer.style else "" for answer in answers]
    common = [getattr(style_of(example.turns[-1]), part) for example in training]
    figures.append(
      Figure(
        name=f"{part} that the answer chose to speak in",
        measure="accuracy",
        score=scores.mean(_equal(given, truth)),
        baselines={"chance": 1 / len(labels), "majority": baselines.majority_accuracy(common, truth)},
      )
    )
  return figures


def _reply_style_figures(
  examples: Sequence[Example], answers: Sequence[Answer], deaf: Sequence[Answer]
) -> list[Figure]:
  truth = [_manner(style_of(example.turns[-1])) for example in examples]
  right, without = (
    scores.mean(_equal([_manner(answer.style) for answer in given], truth)) for given in (answers, deaf)
  )
  shared = {"chance": 1 / (len(EMOTIONS) * len(PITCHES)), "majority": _most_frequent(truth)}
  return [
    Figure(
      name="the answer's emotion and pitch suit the user's emotion (with heard style tokens)",
      measure="accuracy",
      score=right,
      baselines=shared | {"without heard style": without},
    ),
    Figure(
      name="the answer's emotion and pitch suit the user's emotion (heard style tokens removed)",
      measure="accuracy",
      score=without,
      baselines=shared,
    ),
  ]


def _pair_figures(pairs: Sequence[Sequence[int]], named: dict, answers, deaf) -> list[Figure]:
  if not pairs:
    return []

  def differ(values: Sequence[Any]) -> scores.Score:
    return scores.mean([len({values[row] for row in rows}) > 1 for rows in pairs])

  return [
    Figure(
      name="same words, other emotion: another emotion is named",
      measure="accuracy",
      score=differ(named["with"]),
      baselines={"without heard style": differ(named["without"]), "cascade": differ(named["cascade"])},
    ),
    Figure(
      name="same words, other emotion: the answer's style changes",
      measure="accuracy",
      score=differ([_manner(answer.style) for answer in answers]),
      baselines={"without heard style": differ([_manner(answer.style) for answer in deaf])},
    ),
  ]


def _whole_pairs(context: Context) -> list[Example]:
  """Returns up to `settings.pairs` recordings in whole groups of the same words and voice."""
  examples = context.examples("dialogue", "pairs", limit=sys.maxsize)
  chosen: list[int] = []
  for rows in _pairs(examples):
    if len(chosen) + len(rows) <= max(context.settings.pairs, len(rows)):
      chosen += rows
  return [examples[row] for row in chosen]


def _pairs(examples: Sequence[Example]) -> list[list[int]]:
  groups: dict[tuple[str, str], list[int]] = defaultdict(list)
  for row, example in enumerate(examples):
    groups[example.turns[0].text, example.turns[0].voice].append(row)
  return [rows for rows in groups.values() if len({examples[row].turns[0].style for row in rows}) > 1]


def _sample(context: Context, task: str, row: int, example: Example, answer: Answer) -> dict[str, Any]:
  user, reply = example.turns[0], example.turns[-1]
  sample: dict[str, Any] = {
    "id": example.id,
    "question": user.text,
    "user_style": user.style,
    "reference": reply.text,
    "reference_style": reply.style,
    "heard": answer.heard_text,
    "heard_style": str(answer.heard_style or ""),
    "answer": answer.text,
    "answer_style": str(answer.style or ""),
    "problem": answer.problem,
    "right": is_right(answer, reply.text),
  }
  if row < context.settings.kept_sounds:
    sample |= context.keep_exchange(f"{task}-{row}", question=sound(user), answer=answer.waveform)
  return sample


def _failures(name: str, answers: Sequence[Answer]) -> Figure:
  return Figure(
    name=f"{name}: answers that break their layout (counted as wrong everywhere)",
    measure="failures",
    score=scores.mean([bool(answer.problem) for answer in answers]),
  )


def _manner(style: Any) -> str:
  return f"{style.emotion}-{style.pitch}" if style else ""


def _equal(given: Sequence[str], truth: Sequence[str]) -> list[bool]:
  return [one == other for one, other in zip(given, truth, strict=True)]


def _most_frequent(truth: Sequence[str]) -> float:
  return truth.count(baselines.most_common(truth)) / len(truth)
