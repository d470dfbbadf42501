"""Text <-> ids: what any tokenizer must offer, and SentencePiece models, our own or a released one.

Text is only ever text: control, unit and style ids live outside the tokenizer (see `vocabulary`), and what a released
model would recognise in text as a token of its own (added tokens, user-defined symbols) is taken out of it here.

A model trained here leaves text as it is and writes unknown characters as bytes: `decode(encode(text)) == text`. The
one character that does not survive is U+2581, SentencePiece's own sign for a space.
"""

import hashlib
import io
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole

_BYTE_PIECES = 256
_SPECIAL_PIECES = 1  # <unk>, which byte fallback never lets out
_SPACE = "\u2581"  # how pieces spell a space

Segment = str | list[int]
"""A part of a sequence: text to be encoded, or ids as they are."""


class TextTokenizer(Protocol):
  """What the rest of the project asks of a text tokenizer."""

  @property
  def num_pieces(self) -> int:
    """Number of ids of text; every id that `encode` gives is below it."""
    ...

  @property
  def num_ids(self) -> int:
    """Number of ids, the tokens that text never gives included: what is added begins here."""
    ...

  @property
  def specials(self) -> Mapping[str, int]:
    """Name -> id of the tokens that text never gives: `<|im_end|>`, and units where a release added them."""
    ...

  @property
  def prefixes_space(self) -> bool:
    """Whether `encode` writes a space before the text, so that a text that follows a space is encoded without it."""
    ...

  @property
  def fingerprint(self) -> str:
    """Twelve hexadecimal digits that change with anything that changes ids."""
    ...

  def encode(self, text: str) -> list[int]:
    """Returns the ids of `text`, read as plain text."""
    ...

  def decode(self, ids: Sequence[int]) -> str:
    """Returns the text of `ids`."""
    ...


def encode_segments(segments: Iterable[Segment], tokenizer: TextTokenizer) -> list[int]:
  """Returns the ids of segments; texts that follow each other are encoded as one."""
  ids: list[int] = []
  for segment in joined(segments):
    ids += tokenizer.encode(segment) if isinstance(segment, str) else segment
  return ids


def joined(segments: Iterable[Segment]) -> list[Segment]:
  """Returns the segments with neighbours of one kind made one, and nothing empty.

  >>> joined(["a", "", "b", [1], [2], "c"])
  ['ab', [1, 2], 'c']
  """
  runs: list[Segment] = []
  for segment in segments:
    if not segment:
      continue
    if runs and isinstance(runs[-1], str) == isinstance(segment, str):
      runs[-1] = runs[-1] + segment  # pyright: ignore[reportOperatorIssue] both are of one kind
    else:
      runs.append(segment)
  return runs


class SentencePieceTokenizer:
  """A SentencePiece model; picklable (data workers get a copy of the model's bytes)."""

  def __init__(self, model: bytes, *, added: Mapping[str, int] | None = None, where: object = "text tokenizer"):
    """Reads a serialised model.

    Args:
      model: its bytes.
      added: name -> id of tokens that a release put behind the pieces (`added_tokens.json`).
      where: names the origin in messages.
    """
    import sentencepiece
    from google.protobuf.message import DecodeError

    self._model, self._added = model, dict(added or {})
    self._processor: Any = sentencepiece.SentencePieceProcessor()
    try:
      self._processor.LoadFromSerializedProto(_without_user_defined(model))
    except (RuntimeError, DecodeError) as error:
      raise UserError(
        f"not a SentencePiece model ({error})",
        where=where,
        rule="the text tokenizer is a file written by train_text_tokenizer, or a released tokenizer.model",
        remedy="build the vocabulary again, or copy the released file again",
      ) from error

  @classmethod
  def load(cls, path: pathlib.Path) -> "SentencePieceTokenizer":
    """Returns the tokenizer stored at `path`."""
    if not path.is_file():
      raise UserError(
        "no text tokenizer",
        where=path,
        rule="the vocabulary is built before anything reads text",
        remedy="run `omni vocabulary` on this workdir first",
      )
    beside = path.parent / "added_tokens.json"
    return cls(path.read_bytes(), added=read_added_tokens(beside) if beside.is_file() else None, where=path)

  def __reduce__(self):
    return _restore, (self._model, self._added)

  @property
  def num_pieces(self) -> int:
    """Number of pieces, bytes included."""
    return self._processor.GetPieceSize()

  @property
  def num_ids(self) -> int:
    """Number of ids, added tokens included."""
    return max([self.num_pieces - 1, *self._added.values()]) + 1

  @property
  def specials(self) -> Mapping[str, int]:
    """Name -> id of pieces that text never gives (`<s>`), and of added tokens."""
    silent = (self._processor.IsControl, self._processor.IsUnknown, self._processor.IsUnused)
    pieces = [i for i in range(self.num_pieces) if any(kind(i) for kind in silent)]
    return {self._processor.IdToPiece(i): i for i in pieces} | self._added

  @property
  def prefixes_space(self) -> bool:
    """Whether `encode` writes a space before the text."""
    return self._processor.IdToPiece(self.encode("a")[0]).startswith(_SPACE)

  @property
  def serialized(self) -> bytes:
    """The model's bytes, as in its file."""
    return self._model

  @property
  def fingerprint(self) -> str:
    """Twelve hexadecimal digits of the model's bytes."""
    return hashlib.sha256(self._model).hexdigest()[:12]

  def encode(self, text: str) -> list[int]:
    """Returns the ids of `text`; no text gives a control id."""
    return self._processor.EncodeAsIds(text)

  def decode(self, ids: Sequence[int]) -> str:
    """Returns the text of `ids`; bytes that are not UTF-8 become U+FFFD."""
    return self._processor.DecodeIds([int(i) for i in ids])


def read_added_tokens(path: pathlib.Path) -> dict[str, int]:
  """Returns the content of an `added_tokens.json`: name -> id.

  Raises:
    UserError: the file holds something else.
  """
  try:
    added = json.loads(path.read_text())
    if not isinstance(added, dict) or not all(type(i) is int and i >= 0 for i in added.values()):
      raise ValueError("not a table of names and ids")
  except (OSError, ValueError) as error:
    raise UserError(
      f"cannot read the added tokens ({error})",
      where=path,
      rule="a JSON object of name -> id",
      remedy="copy the released file again",
    ) from error
  return added


def _restore(model: bytes, added: dict[str, int]) -> SentencePieceTokenizer:
  return SentencePieceTokenizer(model, added=added)


def _without_user_defined(model: bytes) -> bytes:
  """Returns the model with its user-defined symbols marked unused: text that spells one is then cut like any other."""
  from sentencepiece.sentencepiece_model_pb2 import ModelProto  # pyright: ignore[reportAttributeAccessIssue]

  message = ModelProto.FromString(model)
  for piece in message.pieces:
    if piece.type == piece.USER_DEFINED:
      piece.type = piece.UNUSED
  return message.SerializeToString()


def train_text_tokenizer(texts: Iterable[str], *, path: pathlib.Path, num_pieces: int) -> SentencePieceTokenizer:
  """Trains a tokenizer on `texts`, writes it to `path` (all or nothing) and returns it.

  Args:
    texts: sentences, one each.
    path: where the model goes.
    num_pieces: most pieces, 257 of them for bytes and the unknown; a small corpus may give fewer.
  """
  import sentencepiece

  sentences = [text for text in texts if text.strip()]
  smallest = _BYTE_PIECES + _SPECIAL_PIECES + 1
  if not sentences or num_pieces < smallest:
    raise UserError(
      f"{len(sentences)} sentences for {num_pieces} pieces",
      where=path,
      rule=f"a tokenizer needs at least one sentence and {smallest} pieces (256 of them are bytes)",
      remedy="give more text, or a larger num_pieces",
    )
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.Train(
    sentence_iterator=iter(sentences),
    model_writer=model,
    # Not unigram: its seeds are parts that different words share, so a small closed world falls apart into letters.
    model_type="bpe",
    vocab_size=num_pieces,
    hard_vocab_limit=False,
    byte_fallback=True,
    character_coverage=1.0,
    normalization_rule_name="identity",
    remove_extra_whitespaces=False,
    split_digits=True,
    max_sentence_length=16384,
    num_threads=1,  # the result may depend on the number of threads
    bos_id=-1,
    eos_id=-1,
    pad_id=-1,
    unk_id=0,
    minloglevel=2,
  )
  write_whole(path, model.getvalue())
  return SentencePieceTokenizer(model.getvalue(), where=path)
