"""Tasks on speech alone: phones kept by the units, words recognised, words understood in synthesised speech."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from omni_jax.evaluate import baselines, scores
from omni_jax.evaluate.context import INTELLIGIBLE, Context, engine, sound, style_of
from omni_jax.evaluate.dialogue_tasks import dialogue_answers
from omni_jax.evaluate.figures import Figure, Goal, Outcome, at_most
from omni_jax.evaluate.scores import Errors
from omni_jax.evaluate.unit_scores import unit_table
from omni_jax.prepare.schema import Example

SPLITS = {"test": "held-out sentences, seen voices", "test_voice": "held-out sentences, held-out voice"}
_PHONE_GOAL = at_most(0.08)
_WORD_GOAL = at_most(0.10)
_RESYNTHESIS_GOAL = at_most(0.10)  # points above the original recordings
_ANSWER_GOAL = at_most(0.15)


def tokenizer(context: Context) -> Outcome:
  """Returns the phone error rate read through the units, and how the codebook is used."""
  training = [example.turns[0].phones.split() for example in _training_speech(context)]
  figures, samples, tables = [], [], {}
  for split, words in SPLITS.items():
    examples = _speech(context, split)
    waveforms = [sound(example.turns[0]) for example in examples]
    references = [example.turns[0].phones.split() for example in examples]
    heard = context.system.phones(waveforms)
    errors = scores.phone_errors(references, heard)
    figures.append(
      Figure(
        name=f"phone error rate of the units ({words})",
        measure="PER",
        score=errors.score,
        baselines={
          "chance": baselines.chance_errors(references, measure=scores.phone_errors).score,
          "majority": scores.phone_errors(references, [_most_common(training)] * len(references)).score,
        },
        goal=_PHONE_GOAL if split == "test" else None,
      )
    )
    for row, example in enumerate(examples):
      samples.append(_sample(example, split, " ".join(references[row]), " ".join(heard[row]), errors, row))
    units = context.system.units(waveforms)
    tables[f"units ({words})"] = unit_table(units)
  return Outcome(figures=tuple(figures), samples=tuple(samples), tables={"units": tables})


def recognition(context: Context) -> Outcome:
  """Returns word and character error rates of the assistant's recognition, and the share of perfect sentences."""
  training = [example.turns[0].text for example in _training_speech(context)]
  figures, samples, by_voice = [], [], {}
  for split, words in SPLITS.items():
    examples = _speech(context, split)
    references = [example.turns[0].text for example in examples]
    heard = context.system.recognise([sound(example.turns[0]) for example in examples])
    errors = scores.word_errors(references, heard)
    figures += _recognition_figures(words, references, heard, training=training, goal=split == "test")
    groups: dict[str, list[int]] = defaultdict(list)
    for row, example in enumerate(examples):
      groups[example.turns[0].voice].append(row)
      samples.append(_sample(example, split, references[row], heard[row], errors, row))
    by_voice |= {voice: _subset(errors, rows).score.to_json() for voice, rows in sorted(groups.items())}
  return Outcome(figures=tuple(figures), samples=tuple(samples), tables={"WER by voice": by_voice})


def synthesis(context: Context) -> Outcome:
  """Returns what an independent recogniser understands: recordings, resynthesis, spoken texts, spoken answers."""
  limit = context.settings.recognised
  examples = context.examples(
    "speech", "test", limit=limit, keep=lambda example: engine(example.turns[0]) == INTELLIGIBLE
  )
  replies = dialogue_answers(context, limit=limit)
  if not examples or not any(engine(example.turns[-1]) == INTELLIGIBLE for example, _ in replies):
    return Outcome(figures=_not_measurable(), samples=())
  speech = _heard_speech(context, examples)
  answers = _heard_answers(context, replies)
  figures = (*_synthesis_figures(speech), *_answer_figures(answers))
  samples = []
  for kind, rows in (("speech", speech), ("answer", answers)):
    for row, identity in enumerate(rows["id"]):
      samples.append(
        {"id": identity, "kind": kind, **{name: values[row] for name, values in rows.items() if name != "id"}}
      )
  return Outcome(figures=figures, samples=tuple(samples))


def _heard_speech(context: Context, examples: Sequence[Example]) -> dict[str, list[str]]:
  """Returns the words of each utterance and what is understood of recording, resynthesis and spoken text."""
  turns = [example.turns[0] for example in examples]
  styles, recordings = [style_of(turn) for turn in turns], [sound(turn) for turn in turns]
  spoken = {
    "original": recordings,
    "resynthesised": context.system.resynthesise(recordings, styles),
    "text to speech": context.system.synthesise([turn.text for turn in turns], styles),
  }
  understood: dict[str, list[str]] = {"id": [example.id for example in examples], "text": [turn.text for turn in turns]}
  for name, waveforms in spoken.items():
    understood[name] = context.understood(name, waveforms)
    kept = [
      context.keep_sound(f"synthesis-{name.replace(' ', '-')}-{row}", waveforms[row])
      for row in _kept(context, examples)
    ]
    understood[f"sound of {name}"] = kept + [""] * (len(examples) - len(kept))
  return understood


def _heard_answers(context: Context, replies: Sequence[tuple[Example, Any]]) -> dict[str, list[str]]:
  """Returns the reference answer and the model's, and what is understood of the recording and of the answer."""
  recordings = [sound(example.turns[-1]) for example, _ in replies]
  styles = [style_of(example.turns[-1]) for example, _ in replies]
  spoken = {
    "recorded answer": recordings,
    "resynthesised answer": context.system.resynthesise(recordings, styles),
    "spoken answer": [answer.waveform for _, answer in replies],
  }
  rows = {
    "id": [example.id for example, _ in replies],
    "reference": [example.turns[-1].text for example, _ in replies],
    "text": [answer.text for _, answer in replies],
  }
  return rows | {name: context.understood(name, waveforms) for name, waveforms in spoken.items()}


def _synthesis_figures(rows: dict[str, list[str]]) -> list[Figure]:
  texts = rows["text"]
  original = scores.word_errors(texts, rows["original"])
  shared = {"chance": baselines.chance_errors(texts).score, "original": original.score}
  figures = []
  for name, words in (
    ("original", "original flite recordings"),
    ("resynthesised", "resynthesised recordings (units, vocoder)"),
    ("text to speech", "text to speech"),
  ):
    errors = scores.word_errors(texts, rows[name])
    compared = shared if name != "original" else {"chance": shared["chance"]}
    figures.append(Figure(name=f"{words}, by pocketsphinx", measure="WER", score=errors.score, baselines=compared))
    if name != "original":
      goal = _RESYNTHESIS_GOAL if name == "resynthesised" else None
      figures.append(_difference(words, original, errors, goal))
  return figures


def _answer_figures(rows: dict[str, list[str]]) -> list[Figure]:
  references = rows["reference"]
  original = scores.word_errors(references, rows["recorded answer"])
  # An answer without words is a failure: it is scored as if nothing of the reference had been said.
  texts = [
    text if scores.normalise(text) else reference for text, reference in zip(rows["text"], references, strict=True)
  ]
  said = [
    heard if scores.normalise(text) else "" for heard, text in zip(rows["spoken answer"], rows["text"], strict=True)
  ]
  own = scores.word_errors(texts, said)
  shared = {"chance": baselines.chance_errors(references).score, "original": original.score}
  resynthesised = scores.word_errors(references, rows["resynthesised answer"])
  return [
    Figure(
      name="recorded reference answers, by pocketsphinx",
      measure="WER",
      score=original.score,
      baselines={"chance": shared["chance"]},
    ),
    Figure(
      name="resynthesised reference answers, by pocketsphinx",
      measure="WER",
      score=resynthesised.score,
      baselines=shared,
    ),
    Figure(
      name="spoken answers against their own text, by pocketsphinx",
      measure="WER",
      score=own.score,
      baselines=shared | {"resynthesised": resynthesised.score},
    ),
    _difference("spoken answers", original, own, _ANSWER_GOAL),
    Figure(
      name="spoken answers against the reference answer, by pocketsphinx",
      measure="WER",
      score=scores.word_errors(references, said).score,
      baselines=shared,
      note="counts wrong words of the answer as well as unclear ones",
    ),
  ]


def _difference(words: str, original: Errors, errors: Errors, goal: Goal | None) -> Figure:
  return Figure(
    name=f"{words}: word error rate above that of the recordings",
    measure="points",
    score=scores.paired_difference(original, errors),
    baselines={"original": 0.0},
    goal=goal,
    note="same utterances on both sides, drawn again together",
  )


def _not_measurable() -> tuple[Figure, ...]:
  why = "no flite recordings in this corpus: pocketsphinx does not understand espeak-ng, so a figure would mean nothing"
  names = ("original recordings", "resynthesised recordings (units, vocoder)", "text to speech", "spoken answers")
  return tuple(Figure(name=f"{name}, by pocketsphinx", measure="WER", score=None, note=why) for name in names)


def _recognition_figures(
  words: str, references: list[str], heard: list[str], *, training: list[str], goal: bool
) -> list[Figure]:
  def compared(measure):
    return {
      "chance": baselines.chance_errors(references, measure=measure).score,
      "majority": baselines.majority_errors(training, references, measure=measure).score,
    }

  exact = [scores.same_text(reference, text) for reference, text in zip(references, heard, strict=True)]
  return [
    Figure(
      name=f"recognition ({words})",
      measure="WER",
      score=scores.word_errors(references, heard).score,
      baselines=compared(scores.word_errors),
      goal=_WORD_GOAL if goal else None,
    ),
    Figure(
      name=f"recognition, characters ({words})",
      measure="CER",
      score=scores.character_errors(references, heard).score,
      baselines=compared(scores.character_errors),
    ),
    Figure(
      name=f"recognition, whole sentences right ({words})",
      measure="accuracy",
      score=scores.mean(exact),
      baselines={
        "chance": baselines.chance_accuracy(training, references),
        "majority": baselines.majority_accuracy(training, references),
      },
    ),
  ]


def _speech(context: Context, split: str) -> list[Example]:
  return context.once(f"speech/{split}", lambda: context.examples("speech", split, limit=context.settings.utterances))


def _training_speech(context: Context) -> list[Example]:
  return context.once(
    "speech/train", lambda: context.examples("speech", "train", limit=context.settings.baseline_samples)
  )


def _most_common(training: Sequence[Sequence[str]]) -> list[str]:
  return baselines.most_common([" ".join(phones) for phones in training]).split()


def _subset(errors: Errors, rows: Sequence[int]) -> Errors:
  return Errors(errors=tuple(errors.errors[row] for row in rows), lengths=tuple(errors.lengths[row] for row in rows))


def _sample(example: Example, split: str, reference: str, heard: str, errors: Errors, row: int) -> dict[str, Any]:
  turn = example.turns[0]
  return {
    "id": example.id,
    "split": split,
    "voice": turn.voice,
    "style": turn.style,
    "reference": reference,
    "heard": heard,
    "errors": errors.errors[row],
    "length": errors.lengths[row],
  }


def _kept(context: Context, examples: Sequence[Example]) -> range:
  return range(min(context.settings.kept_sounds, len(examples)))
