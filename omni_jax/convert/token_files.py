"""The tokenizer of a working folder beside exported weights, so that `transformers` reads both from one folder."""

import json
import shutil
from pathlib import Path

from omni_jax.convert.folders import write_json
from omni_jax.core.files import write_whole
from omni_jax.tokens.dialogue import VOCABULARY_FILE
from omni_jax.tokens.extension import TOKENIZER_FILES, added_names
from omni_jax.tokens.hugging_face import HuggingFaceTokenizer
from omni_jax.tokens.text import SentencePieceTokenizer
from omni_jax.tokens.vocabulary import Vocabulary


def write_token_files(text: Path, folder: Path) -> None:
  """Writes vocabulary and tokenizer into `folder`; a base's tokenizer then also spells units, styles and controls.

  Args:
    text: the working folder's own, `<workdir>/text`; what is not there is not written.
    folder: of the exported weights.
  """
  for name in (VOCABULARY_FILE, *TOKENIZER_FILES):
    if (text / name).is_file():
      shutil.copyfile(text / name, folder / name)
  released = [name for name in ("tokenizer.json", "tokenizer.model") if (text / name).is_file()]
  if not released or not (vocabulary := Vocabulary.load(text / VOCABULARY_FILE)).specials:
    return  # a tokenizer trained here has no spelling for what is not text
  names = {**vocabulary.specials, **added_names(vocabulary)}
  if released[0] == "tokenizer.model":
    own = SentencePieceTokenizer.load(text / "tokenizer.model")
    new = {name: i for name, i in names.items() if i >= own.num_pieces}
    write_whole(folder / "added_tokens.json", json.dumps(new, indent=1) + "\n")
    return
  write_whole(folder / "tokenizer.json", HuggingFaceTokenizer.load(text / "tokenizer.json").extended(names))
  ends = [name for name, i in names.items() if i == vocabulary.control("end")]
  card = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": ends[0], "pad_token": "<pad>"}
  write_json(folder / "tokenizer_config.json", card)
