"""The house has floors: a module imports from lower floors and from its own package only."""

import ast
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FLOORS = {
  "core": 0,
  "prepare": 1,
  "tokens": 1,
  "nn": 1,
  "batches": 2,
  "models": 2,
  "speech": 2,
  "checkpoint": 2,
  "train": 3,
  "generate": 3,
  "plan": 4,
  "pods": 4,
  "convert": 4,
  "export": 4,
  "evaluate": 4,
  "serve": 4,
  "build": 4,
  "cli": 5,
}
# Importing omni_jax and running a train step need these only; everything else loads where it is used.
LIGHT = {"jax", "flax", "optax", "numpy", "jaxtyping", "beartype", "omni_jax"}
# A package that is about one library may name it at the top; nothing on a lower floor imports that package.
OWN_LIBRARY = {"batches": "grain"}


def imports_of(path: pathlib.Path, *, top_level_only: bool) -> list[str]:
  tree = ast.parse(path.read_text())
  nodes = tree.body if top_level_only else ast.walk(tree)
  names = []
  for node in nodes:
    if isinstance(node, ast.Import):
      names += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path}: relative import"
      names.append(node.module or "")
  return names


# Files for other programs, copied into what is exported; nothing here imports them.
SHIPPED = ROOT / "omni_jax" / "convert" / "hugging_face"


def library_files() -> list[pathlib.Path]:
  return sorted(path for path in (ROOT / "omni_jax").rglob("*.py") if path.parent != SHIPPED)


def test_shipped_files_stand_alone():
  for path in SHIPPED.glob("*.py"):
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0}
    assert not {name for name in names if name.split(".")[0] in ("omni_jax", "jax", "flax")}, path
    beside = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level}
    assert all((SHIPPED / f"{name}.py").is_file() for name in beside), path
  assert not (SHIPPED / "__init__.py").exists()


def test_every_package_has_a_floor():
  packages = {path.name for path in (ROOT / "omni_jax").iterdir() if path.is_dir() and path.name != "__pycache__"}
  assert packages <= set(FLOORS)


@pytest.mark.parametrize("path", library_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
  parts = path.relative_to(ROOT / "omni_jax").parts
  if len(parts) == 1:
    return  # omni_jax/__init__.py
  own = parts[0]
  for name in imports_of(path, top_level_only=False):
    first, *rest = name.split(".")
    assert first not in ("configs", "tools", "tests"), f"{path} imports {name}"
    if first == "omni_jax" and rest and rest[0] != own:
      assert FLOORS[rest[0]] < FLOORS[own], f"{own} (floor {FLOORS[own]}) imports {name} (floor {FLOORS[rest[0]]})"


@pytest.mark.parametrize("path", library_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_packages_load_late(path):
  allowed = LIGHT | sys.stdlib_module_names | {OWN_LIBRARY.get(path.parent.name)}
  for name in imports_of(path, top_level_only=True):
    assert name.split(".")[0] in allowed, f"{path} imports {name} when it is imported"


def test_files_stay_short():
  long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in library_files()}
  assert not {name: lines for name, lines in long.items() if lines > 400}


def test_functions_stay_short():
  long = {}
  for path in library_files():
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno - node.lineno + 1 > 80:
        long[f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"] = node.end_lineno - node.lineno + 1
  assert not long
