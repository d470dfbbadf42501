"""What follows from the sample rate and the hop of a part, the same for all of them."""

from typing import Protocol

from omni_jax.speech.interface import Context


class _Clocked(Protocol):
  @property
  def sample_rate(self) -> int: ...

  @property
  def hop(self) -> int: ...


class _Speaking(Protocol):
  @property
  def frame_rate(self) -> float: ...

  @property
  def unit_seconds(self) -> float: ...

  @property
  def context(self) -> Context: ...


class Timed:
  """A part that states its `sample_rate` and its `hop`."""

  @property
  def frame_rate(self: _Clocked) -> float:
    """Frames per second."""
    return self.sample_rate / self.hop


class SpeakingTimed(Timed):
  """A vocoder that states its `context` besides."""

  @property
  def unit_seconds(self: _Speaking) -> float:
    """Seconds that a unit counts in the look-ahead: the shortest that one lasts, a frame."""
    return 1 / self.frame_rate

  @property
  def lookahead_seconds(self: _Speaking) -> float:
    """Seconds by which a stream lags behind its units, and at most by a chunk more (`Context.lookahead_seconds`)."""
    return self.context.lookahead_seconds(unit_seconds=self.unit_seconds, frame_rate=self.frame_rate)
