"""`runtime/speak.py` as a module, and small vocoders exported for it."""

import importlib.util
from pathlib import Path

FILE = Path(__file__).parents[2] / "runtime" / "speak.py"


def load_runtime():
  spec = importlib.util.spec_from_file_location("speak", FILE)
  assert spec is not None and spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module
