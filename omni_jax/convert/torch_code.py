"""The torch files that go into an exported folder, so that `transformers` computes what no class of its own does.

They lie in `hugging_face/`, are no part of this package (nothing here imports them), and are copied as they are.
`transformers` runs them where its caller says `trust_remote_code=True`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole

SOURCE = Path(__file__).parent / "hugging_face"
_CONFIGS = {"emova": "EMOVAConfig", "emova_qwen2": "EmovaQwen2Config", "emova_llama": "EmovaLlamaConfig"}
_MODELS = ("AutoModel", "AutoModelForCausalLM", "AutoModelForImageTextToText")


def auto_map(card: Mapping[str, Any]) -> dict[str, str]:
  """Returns which class of which file reads a folder with this config.json, nothing where none can.

  There are classes for Qwen2 and Llama decoders with the native-resolution tower and the two-layer projector.
  """
  config = _CONFIGS.get(card["model_type"])
  decoder = card.get("text_config", {}).get("model_type", "qwen2")
  tower = (card.get("vision_config") or card.get("mm_vision_tower") or {}).get("type")
  projector = (card.get("mm_projector_config") or card.get("mm_projector") or {}).get("type")
  if config is None or (tower, projector) != ("Qwen2VisionTower", "MLPProjector") or decoder not in ("qwen2", "llama"):
    return {}
  (architecture,) = card["architectures"]
  return {
    "AutoConfig": f"configuration_emova.{config}",
    **dict.fromkeys(_MODELS, f"modeling_emova.{architecture}"),
    "AutoProcessor": "processing_emova.EMOVAProcessor",
  }


def write_code(folder: Path) -> None:
  """Copies the files into a folder, made if missing."""
  for path in _files():
    write_whole(folder / path.name, path.read_bytes())


def check_code(folder: Path) -> None:
  """Refuses a folder whose torch files are not ours: they would be run.

  Raises:
    UserError: one is missing or differs, or there are others.
  """
  ours = {path.name: path.read_bytes() for path in _files()}
  theirs = {path.name: path.read_bytes() for path in folder.glob("*.py")}
  wrong = sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name))
  if wrong:
    raise UserError(
      f"not as this version writes them: {', '.join(wrong)}",
      where=folder,
      rule="only the torch files of this package are run",
      remedy="export the folder again with this version",
    )


def _files() -> list[Path]:
  return sorted(SOURCE.glob("*.py"))
