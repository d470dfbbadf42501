"""How long a person waits: time to the first sound and to the end of an answer, by stage."""

from collections import defaultdict

from omni_jax.evaluate import scores
from omni_jax.evaluate.context import Context, sound
from omni_jax.evaluate.figures import Figure, Goal, Outcome, at_least
from omni_jax.generate.exchange import Ability, Question

_RATIO_GOAL = Goal("at most", 1.0)


def timings(context: Context) -> Outcome:
  """Returns the times of spoken questions, about images where the system sees, one at a time as in a conversation."""
  sees = Ability.SEES in context.system.abilities
  examples = context.examples("spoken_images" if sees else "dialogue", "test", limit=context.settings.timed)
  questions = [
    Question(waveform=sound(example.turns[0]), image=example.image if sees else None) for example in examples
  ]
  advance = context.progress("streamed answers", 2 * len(questions))
  timed = []
  for warm_up in (True, False):  # the first round compiles; only the second is reported
    for question in questions:
      timing = context.system.stream(question)
      timed += [] if warm_up else [timing]
      advance(1)
  seconds = defaultdict(list)
  for timing in timed:
    for stage, spent in timing.stages.items():
      seconds[stage].append(spent)
  audio = [max(timing.audio_seconds, 1e-3) for timing in timed]
  note = "one answer at a time, after loading and compiling; other work on the machine counts in"
  figures = (
    Figure(
      name="time to the first sound",
      measure="seconds",
      score=scores.mean([timing.first_sound_seconds for timing in timed]),
      note=note,
    ),
    Figure(
      name="time to the whole answer", measure="seconds", score=scores.mean([timing.wall_seconds for timing in timed])
    ),
    Figure(
      name="CPU time of the whole answer",
      measure="seconds",
      score=scores.mean([timing.cpu_seconds for timing in timed]),
    ),
    Figure(
      name="time to the whole answer, as a share of the length of its sound",
      measure="ratio",
      score=scores.ratio([timing.wall_seconds for timing in timed], audio),
      goal=_RATIO_GOAL,
    ),
    Figure(
      name="answers whose first sound comes before the end",
      measure="accuracy",
      score=scores.mean([timing.first_is_before_end for timing in timed]),
      goal=at_least(1.0),
    ),
  )
  table = {stage: round(sum(spent) / len(timed), 4) for stage, spent in seconds.items()}
  samples = [{"id": e.id, **timing._asdict()} for e, timing in zip(examples, timed, strict=True)]
  return Outcome(figures=figures, samples=tuple(samples), tables={"CPU seconds by stage": table})
