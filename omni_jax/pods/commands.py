"""Commands of other programs: run, or only printed."""

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from omni_jax.core.errors import UserError


class Command(NamedTuple):
  """A program with its arguments, and what for."""

  words: tuple[str, ...]
  why: str
  input: str = ""  # given to it

  def __str__(self) -> str:
    return shlex.join(self.words)


class Runner(Protocol):
  """Who runs commands."""

  def run(self, command: Command) -> str:
    """Returns what the command prints."""
    ...

  def follow(self, command: Command) -> int:
    """Shows what a long command prints while it runs; returns its status."""
    ...

  def sleep(self, seconds: float) -> None:
    """Waits."""
    ...


class Shell:
  """Runs them."""

  def run(self, command: Command) -> str:
    """Returns what the command prints.

    Raises:
      UserError: the program is not installed, or failed.
    """
    print(f"# {command.why}\n{command}", file=sys.stderr)
    try:
      done = subprocess.run(command.words, input=command.input, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
      raise _missing(command) from error
    if done.returncode:
      raise CommandFailed(command, status=done.returncode, message=done.stderr.strip() or done.stdout.strip())
    return done.stdout.strip()

  def follow(self, command: Command) -> int:
    """Shows what a long command prints while it runs; returns its status."""
    print(f"# {command.why}\n{command}", file=sys.stderr)
    try:
      return subprocess.run(command.words, check=False).returncode
    except FileNotFoundError as error:
      raise _missing(command) from error

  def sleep(self, seconds: float) -> None:
    """Waits."""
    time.sleep(seconds)


class DryRun:
  """Prints them; each gives the next of some answers, then nothing."""

  def __init__(self, answers: Sequence[str] = ()):
    """Starts with what commands would have printed."""
    self.commands: list[Command] = []
    self._answers = list(answers)

  def run(self, command: Command) -> str:
    """Prints the command and what it is given."""
    self.commands.append(command)
    print(f"# {command.why}\n{command}")
    if command.input:
      print("".join(f"  | {line}\n" for line in command.input.splitlines()), end="")
    return self._answers.pop(0) if self._answers else ""

  def follow(self, command: Command) -> int:
    """Prints the command."""
    self.run(command)
    return 0

  def sleep(self, seconds: float) -> None:
    """Does not wait."""


class CommandFailed(UserError):
  """A program that ended with an error."""

  def __init__(self, command: Command, *, status: int, message: str):
    """Keeps the command, its status and what it said."""
    self.command, self.status, self.message = command, status, message
    super().__init__(
      f"{command.words[0]} ended with status {status}: {message}",
      where=str(command),
      rule=f"needed to: {command.why}",
      remedy="mend what it says and run the same command again",
    )

  def __reduce__(self):
    return _failed, (self.command, self.status, self.message)


def _failed(command: Command, status: int, message: str) -> CommandFailed:
  return CommandFailed(command, status=status, message=message)


def _missing(command: Command) -> UserError:
  return UserError(
    f"{command.words[0]} is not installed",
    where=str(command),
    rule=f"needed to: {command.why}",
    remedy=f"install {command.words[0]}, or print all commands with --dry-run",
  )
