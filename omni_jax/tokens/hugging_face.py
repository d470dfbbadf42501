"""Text <-> ids by a Hugging Face `tokenizer.json`, read so that text is only ever text.

Such a file lists added tokens (`<|im_end|>`, `<tool_call>`, EMOVA's `<|speech_5|>`) that its library cuts out of any
text. They are taken out here and told by name in `specials`, so that they enter a sequence as ids and never by being
spelt. Added tokens that are text themselves stay: runs of white space (MPT) and single characters (DeepSeek's `ø`).

What begins a sequence in their library (a template of special tokens) is left to our templates. Deviation: what follows
a special token is never joined to it (`lstrip`, `rstrip`, `single_word`), because specials are not found in text.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from omni_jax.core.errors import UserError

_SPACE = "\u2581"  # how pieces of a SentencePiece model spell a space


class HuggingFaceTokenizer:
  """The text part of a `tokenizer.json`; picklable (data workers get a copy of the file)."""

  def __init__(self, text: str, *, where: object = "tokenizer.json"):
    """Reads the content of a file; `where` names its origin in messages."""
    import tokenizers

    self._text = text
    try:
      data = json.loads(text)
      added = {token["content"]: int(token["id"]) for token in data.get("added_tokens") or ()}
      kept = [token for token in data.get("added_tokens") or () if _is_text(token)]
      self._plain = _plain(data, kept)
      self._tokenizer: Any = tokenizers.Tokenizer.from_str(self._plain)
      self._names = _vocabulary(data)
    except Exception as error:  # the library raises bare Exception
      raise UserError(
        f"not a tokenizer ({type(error).__name__}: {str(error)[:200]})",
        where=where,
        rule="a tokenizer.json as Hugging Face's tokenizers writes it",
        remedy="copy the released file again",
      ) from error
    names = {token["content"] for token in kept}
    self.specials: Mapping[str, int] = {name: i for name, i in added.items() if name not in names}
    self.num_pieces = max([*self._names.values(), *(added[name] for name in names)]) + 1
    self.num_ids = max([self.num_pieces - 1, *added.values()]) + 1
    self.fingerprint = hashlib.sha256(self._plain.encode()).hexdigest()[:12]
    self._never = frozenset(self.specials.values())
    self.prefixes_space = self._tokenizer.id_to_token(self.encode("a")[0]).startswith(_SPACE)
    self._check(where)

  @classmethod
  def load(cls, path: pathlib.Path) -> "HuggingFaceTokenizer":
    """Returns the tokenizer of the file at `path`."""
    if not path.is_file():
      raise UserError(
        "no tokenizer.json",
        where=path,
        rule="a released model has its tokenizer beside it",
        remedy="copy the file, or correct the path",
      )
    return cls(path.read_text(encoding="utf-8"), where=path)

  def __reduce__(self):
    return HuggingFaceTokenizer, (self._text,)

  def encode(self, text: str) -> list[int]:
    """Returns the ids of `text`; the name of a special token is cut into pieces like any other text."""
    return self._tokenizer.encode(text, add_special_tokens=False).ids

  def decode(self, ids: Sequence[int]) -> str:
    """Returns the text of `ids`, other tokens left out; bytes that are not UTF-8 become U+FFFD.

    It is the text given where the file's normaliser leaves text alone (Qwen2 composes accents: NFC).
    """
    pieces = [int(i) for i in ids if i < self.num_pieces and i not in self._never]
    return self._tokenizer.decode(pieces, skip_special_tokens=False)

  def extended(self, tokens: Mapping[str, int]) -> str:
    """Returns the content of a `tokenizer.json` that has these tokens too, for programs that find them in text.

    Args:
      tokens: name -> id; ids that follow the ids there are, without a hole.

    Raises:
      UserError: an id is taken or leaves a hole, which their library would move.
    """
    new = {name: i for name, i in tokens.items() if self.specials.get(name) != i}
    expected = list(range(self.num_ids, self.num_ids + len(new)))
    if sorted(new.values()) != expected or set(new) & (set(self.specials) | set(self._names)):
      raise UserError(
        f"{len(new)} new tokens with the ids {min(new.values())} to {max(new.values())}",
        where="extended tokenizer",
        rule=f"new names, with ids from {self.num_ids} on without a hole",
        remedy="extend the tokenizer that the vocabulary was made for",
      )
    data = json.loads(self._text)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    data["added_tokens"] = [*(data.get("added_tokens") or ())] + [
      {"id": i, "content": name, **flags} for name, i in sorted(new.items(), key=lambda item: item[1])
    ]
    return json.dumps(data, ensure_ascii=False)

  def _check(self, where: object) -> None:
    """Refuses a model whose own pieces spell a special token (a unigram model may)."""
    spelt = [
      name
      for name, encoding in zip(self.specials, self._tokenizer.encode_batch(list(self.specials)), strict=True)
      if self._never & set(encoding.ids)
    ]
    if spelt:
      raise UserError(
        f"typed text becomes a special token: {', '.join(spelt[:8])}",
        where=where,
        rule="no text that a user types is a control, unit or style token",
        remedy="use a tokenizer whose special tokens are not pieces of its model",
      )


def _is_text(token: Mapping[str, Any]) -> bool:
  """Whether an added token is ordinary text: one character, or white space."""
  return not token.get("special") and (len(token["content"]) == 1 or token["content"].isspace())


def _plain(data: Mapping[str, Any], kept: Sequence[Mapping[str, Any]]) -> str:
  """Returns the file with only these added tokens, and nothing put around a text."""
  model = dict(data["model"])
  if isinstance(model.get("vocab"), dict):
    # Their library numbers added tokens anew unless the model knows them.
    model["vocab"] = model["vocab"] | {token["content"]: token["id"] for token in kept}
  off = {"post_processor": None, "truncation": None, "padding": None}
  return json.dumps({**data, **off, "model": model, "added_tokens": list(kept)}, sort_keys=True)


def _vocabulary(data: Mapping[str, Any]) -> dict[str, int]:
  vocab = data["model"]["vocab"]
  return vocab if isinstance(vocab, dict) else {piece: i for i, (piece, _) in enumerate(vocab)}
