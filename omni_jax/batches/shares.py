"""Which source a sample comes from: shares as exact whole numbers, kept at every moment, changing at stated steps.

    weights 2 : 1 : 1, one cycle of four     a b a c | c a a b | ...
    strata of a (halves), b and c (wholes)   each draw falls somewhere within its own stratum

A cycle holds every source exactly as often as its share says. Within a cycle the draws of a source are spread: its k-th
of w lies at random between k/w and (k+1)/w, so that after any part of a cycle its count is off by less than one before
rounding, and no two sources march in step.
"""

import dataclasses
import fractions
import math
from collections.abc import Sequence

import numpy as np

from omni_jax.batches.draws import uniform
from omni_jax.core.errors import UserError

_AT_ONCE = 2048  # samples; shorter cycles are ordered several at once
LONGEST_CYCLE = 1 << 18  # samples; shares that need a longer cycle are rounded to this one


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase:
  """Shares that hold from a step on."""

  step: int
  shares: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turn:
  """Where in the endless order of sources one is."""

  phase: int = 0
  cycle: int = 0  # or so many of them at once
  place: int = 0


def whole_shares(weights: Sequence[float]) -> tuple[int, ...]:
  """Returns the smallest whole numbers in the proportions of decimal `weights`: 0.5, 0.25 -> 2, 1.

  Where their sum would pass LONGEST_CYCLE they are rounded to it, largest remainders up; no share above 0 becomes 0.
  """
  exact = [fractions.Fraction(str(weight)) for weight in weights]
  shares = [int(weight * math.lcm(*(other.denominator for other in exact))) for weight in exact]
  if sum(shares) // math.gcd(*shares) > LONGEST_CYCLE:
    total = sum(shares)
    rounded = [max(share * LONGEST_CYCLE // total, min(share, 1)) for share in shares]
    left = LONGEST_CYCLE - sum(rounded)
    order = sorted(range(len(shares)), key=lambda place: (-(shares[place] * LONGEST_CYCLE % total), place))
    shares = [share + (place in order[: max(left, 0)]) for place, share in enumerate(rounded)]
  divisor = math.gcd(*shares)
  return tuple(share // divisor for share in shares)


def phases(weights: Sequence[float], changes: Sequence[Sequence[tuple[int, float]]]) -> tuple[Phase, ...]:
  """Returns the shares from step 0 on and from every step at which a source's weight changes.

  Args:
    weights: of the sources, from step 0.
    changes: for each source its later weights, as (from this step, weight).

  Raises:
    UserError: no source has a weight at some step.
  """
  steps = sorted({0, *(step for own in changes for step, _ in own)})
  made = []
  for step in steps:
    now = [
      next((late for first, late in sorted(own, reverse=True) if first <= step), weight)
      for weight, own in zip(weights, changes, strict=True)
    ]
    if not any(now):
      raise UserError(
        f"no source has a weight from step {step} on",
        where="weight and changes of sources",
        rule="some source is read at every step",
        remedy="give one of them a weight",
      )
    made.append(Phase(step=step, shares=whole_shares(now)))
  return tuple(made)


class SourceOrder:
  """The endless order in which sources take turns."""

  def __init__(self, plan: Sequence[Phase], *, seed: int):
    """Keeps the phases, which begin at step 0."""
    self._phases, self._seed = tuple(plan), seed
    self._kept: tuple[tuple[int, int], np.ndarray] | None = None

  def take(self, count: int, *, turn: Turn, step: int) -> tuple[np.ndarray, Turn]:
    """Returns the sources of at most `count` samples (fewer at the end of a cycle), and the turn after them.

    Args:
      count: at least 1.
      turn: where to begin; a cycle of an earlier phase is broken off.
      step: of training; the last phase that began by then holds.
    """
    phase = max(number for number, phase in enumerate(self._phases) if phase.step <= step)
    if phase != turn.phase:
      turn = Turn(phase=phase)
    order = self._cycle(turn.phase, turn.cycle)
    taken = order[turn.place : turn.place + count]
    place = turn.place + len(taken)
    ended = place == len(order)
    return taken, dataclasses.replace(turn, cycle=turn.cycle + ended, place=0 if ended else place)

  def _cycle(self, phase: int, cycle: int) -> np.ndarray:
    if self._kept is None or self._kept[0] != (phase, cycle):
      shares = np.array(self._phases[phase].shares)
      times = max(_AT_ONCE // int(shares.sum()), 1)
      sources = np.tile(np.repeat(np.arange(len(shares)), shares), times)
      number = np.tile(np.concatenate([np.arange(share) for share in shares]), times)
      repeat = np.repeat(np.arange(times), shares.sum())
      due = repeat + (number + uniform(self._seed, phase, cycle, repeat, sources, number)) / shares[sources]
      self._kept = (phase, cycle), sources[np.argsort(due, kind="stable")]
    return self._kept[1]
