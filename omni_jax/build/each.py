"""Work on several records at once, of which one that cannot be used does not take the others with it."""

from collections.abc import Callable, Sequence

from omni_jax.build.driver import Work
from omni_jax.core.errors import UserError
from omni_jax.prepare.quarantine import Rejected, reason_of
from omni_jax.prepare.schema import Example


def apart(work: Callable[[Sequence[Example]], Sequence[Example]]) -> Work:
  """Returns `work` as a step does it: where it raises a UserError, each record is tried alone, and put aside then."""

  def done(examples: Sequence[Example]) -> Sequence[Example | Rejected]:
    try:
      return work(examples)
    except UserError as error:
      if len(examples) == 1:
        return [Rejected(examples[0].id, reason_of(error))]
    return [result for example in examples for result in done([example])]  # find which

  return done


def apart_each(work: Callable[[Example], Example]) -> Work:
  """Returns work on one record as a step does it on several."""
  return apart(lambda examples: [work(example) for example in examples])
