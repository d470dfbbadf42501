"""From `path/file.py:function` and `--set field=value` to a config: the only place where user code is loaded."""

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from omni_jax.core import config
from omni_jax.core.errors import UserError

Config = TypeVar("Config")


def load_config(
  reference: str,
  *,
  returns: type[Config] | tuple[type[Config], ...],
  arguments: Sequence[Any] = (),
  settings: Sequence[str] = (),
) -> Config:
  """Returns what a config function makes, with fields set from the command line.

  Args:
    reference: `path/file.py:function`.
    returns: the class it must return, or one of several.
    arguments: what the function is given: the working folder of a run, or nothing.
    settings: `dotted.path=value` each.

  Raises:
    UserError: no such file or function, an error inside it, another return value, or a wrong setting.
  """
  function = load_function(reference)
  try:
    made = function(*arguments)
  except UserError:
    raise
  except Exception as error:
    raise _broken(reference, error) from error
  wanted = returns if isinstance(returns, tuple) else (returns,)
  if not isinstance(made, wanted):
    raise UserError(
      f"it returned a {type(made).__name__}",
      where=f"config {reference}",
      rule=f"this verb needs a {' or '.join(each.__name__ for each in wanted)}",
      remedy="choose the config of this verb",
    )
  return config.replace(made, parse_settings(settings))


def load_function(reference: str) -> Callable[..., Any]:
  """Returns the function named by `path/file.py:function`."""
  path_text, colon, name = reference.rpartition(":")
  path = Path(path_text)
  if not colon or path.suffix != ".py" or not name:
    raise UserError(
      f"cannot read {reference!r}",
      where="config",
      rule="a config is written path/file.py:function",
      remedy="for example configs/emova/align.py:tiny",
    )
  if not path.is_file():
    raise UserError(
      f"no such file: {path}", where=f"config {reference}", rule="the file exists", remedy=_neighbours(path.parent)
    )
  module = _import(path.resolve(), reference)
  function = getattr(module, name, None)
  if not callable(function):
    own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    known = [key for key in own if callable(vars(module)[key]) and not key.startswith("_")]
    raise UserError(
      f"no function {name!r}",
      where=f"config {reference}",
      rule=f"{path} has {', '.join(known) or 'no functions'}",
      remedy="choose one of these",
    )
  return function


def parse_settings(settings: Sequence[str]) -> dict[str, str]:
  """Returns `path=value` texts as a dict."""
  wrong = [text for text in settings if not text.partition("=")[0] or "=" not in text]
  if wrong:
    raise UserError(
      f"cannot read {wrong[0]!r}", where="--set", rule="a setting is path=value", remedy="for example --set steps=100"
    )
  return {path: value for path, _, value in (text.partition("=") for text in settings)}


def _import(path: Path, reference: str) -> Any:
  """Imports a file by the dotted name it has in its package, so that its neighbours can be imported too."""
  root = path.parent
  while (root / "__init__.py").exists():
    root = root.parent
  name = ".".join(path.relative_to(root).with_suffix("").parts)
  loaded = sys.modules.get(name)
  if loaded is not None and Path(str(loaded.__file__)).resolve() != path:
    raise UserError(
      f"another file is loaded as {name!r}: {loaded.__file__}",
      where=f"config {reference}",
      rule="one file for each module name",
      remedy="rename the file, or put an __init__.py beside it",
    )
  if str(root) not in sys.path:
    sys.path.insert(0, str(root))
  try:
    return importlib.import_module(name)
  except UserError:
    raise
  except Exception as error:
    raise _broken(reference, error) from error


def _broken(reference: str, error: Exception) -> UserError:
  return UserError(
    f"{type(error).__name__}: {error}",
    where=f"config {reference}",
    rule="the config file runs without error",
    remedy="correct the file",
  )


def _neighbours(folder: Path) -> str:
  names = sorted(str(path) for path in folder.glob("*.py") if path.name != "__init__.py") if folder.is_dir() else []
  return f"choose among {', '.join(names)}" if names else "correct the path"
