"""The tokenizer files beside exported weights: what `transformers.AutoTokenizer` reads.

Every token of the vocabulary has a name there: units `<|speech_5|>`, styles `<|emotion-happy|>`, the image place
`<image>`, `<pad>`, our controls `<|user|>`. Their tokenizers find these names in text, while here text is only text.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omni_jax.convert.chat_template import chat_template
from omni_jax.convert.folders import read_json
from omni_jax.convert.sentencepiece_json import sentencepiece_json
from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.tokens.dialogue import VOCABULARY_FILE
from omni_jax.tokens.extension import TOKENIZER_FILES, added_names
from omni_jax.tokens.hugging_face import HuggingFaceTokenizer
from omni_jax.tokens.templates import Template, render, spell
from omni_jax.tokens.text import SentencePieceTokenizer, TextTokenizer
from omni_jax.tokens.vocabulary import Vocabulary

_MAX_LENGTH = 8192  # tokens, as EMOVA was trained
_RENAMED = ("image", "pad")  # have a name of EMOVA's


def tokenizer_files(tokenizer: TextTokenizer, *, vocabulary: Vocabulary, template: Template | None) -> dict[str, str]:
  """Returns name -> content of tokenizer.json, tokenizer_config.json, added_tokens.json and generation_config.json.

  Args:
    tokenizer: of the text.
    vocabulary: the ids of everything else.
    template: becomes the chat template; None leaves it out.

  Raises:
    UserError: the tokenizer is one that theirs cannot be made to equal, or the template spells a token that the
      vocabulary lacks.
  """
  names = token_names(vocabulary)
  by_id = {i: name for name, i in (dict(vocabulary.specials) | names).items()}
  end, pad = (vocabulary.control(name) for name in ("end", "pad"))
  card: dict[str, Any] = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "eos_token": by_id[end],
    "pad_token": by_id[pad],
    "padding_side": "left",
    "model_max_length": _MAX_LENGTH,
    "clean_up_tokenization_spaces": False,
  }
  if template is not None:
    list(spell([render(template, [("", "")])], vocabulary.named()))  # refuses tokens that are not there
    card["chat_template"] = chat_template(template)
  return {
    "tokenizer.json": _tokenizer_json(tokenizer, names),
    "tokenizer_config.json": _written(card),
    "added_tokens.json": _written(dict(sorted(names.items(), key=lambda item: item[1]))),
    "generation_config.json": _written({"eos_token_id": end, "pad_token_id": pad}),
  }


def write_tokenizer(folder: Path, files: Mapping[str, str], *, own: Path) -> None:
  """Writes the tokenizer beside weights.

  Args:
    folder: of the weights; a generation_config.json that is there keeps its other fields.
    files: what `tokenizer_files` gives.
    own: the working folder's text files, copied where theirs have not the same name.
  """
  for name in (VOCABULARY_FILE, *TOKENIZER_FILES):
    if name not in files and (own / name).is_file():
      shutil.copyfile(own / name, folder / name)
  path = folder / "generation_config.json"
  held = read_json(path) if path.exists() else {}
  for name, content in files.items():
    write_whole(folder / name, content if name != path.name else _written(held | json.loads(content)))


def token_names(vocabulary: Vocabulary) -> dict[str, int]:
  """Returns name -> id of everything that is neither text nor a special token of a released base."""
  taken = set(vocabulary.specials.values())
  own = {f"<|{name}|>": i for name, i in vocabulary.controls.items() if name not in _RENAMED and i not in taken}
  return {name: i for name, i in (own | added_names(vocabulary)).items() if i not in taken}


def _tokenizer_json(tokenizer: TextTokenizer, names: dict[str, int]) -> str:
  if isinstance(tokenizer, HuggingFaceTokenizer):
    return tokenizer.extended(names)
  if isinstance(tokenizer, SentencePieceTokenizer):
    return json.dumps(sentencepiece_json(tokenizer, names), ensure_ascii=False)
  raise UserError(
    f"a {type(tokenizer).__name__}",
    where="text tokenizer",
    rule="a tokenizer.json or a tokenizer.model",
    remedy="export without tokenizer files",
  )


def _written(value: Mapping[str, Any]) -> str:
  return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
