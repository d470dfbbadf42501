"""Text <-> ids by a SentencePiece BPE model, trained on the corpus, with nothing in it that text could spell.

Normalisation is the identity and unknown characters fall back to bytes, so that `decode(encode(text)) == text`. The
model holds no user-defined symbols: control, unit and style ids live outside it (see `vocabulary`), so text typed by a
user is only ever text. The one character that does not survive is U+2581, SentencePiece's own sign for a space.
"""

import hashlib
import io
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole

_BYTE_PIECES = 256
_SPECIAL_PIECES = 1  # <unk>, which byte fallback never lets out


class TextTokenizer(Protocol):
  """What the rest of the project asks of a text tokenizer."""

  @property
  def num_pieces(self) -> int:
    """Number of ids; every id that `encode` gives is below it."""
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


class SentencePieceTokenizer:
  """A trained SentencePiece model; picklable (data workers get a copy of the model's bytes)."""

  def __init__(self, model: bytes, *, where: object = "text tokenizer"):
    """Reads a serialised model; `where` names its origin in messages."""
    import sentencepiece

    self._model = model
    self._processor: Any = sentencepiece.SentencePieceProcessor()
    try:
      self._processor.LoadFromSerializedProto(model)
    except RuntimeError as error:
      raise UserError(
        f"not a SentencePiece model ({error})",
        where=where,
        rule="the text tokenizer is a file written by train_text_tokenizer",
        remedy="delete it and build the vocabulary again",
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
    return cls(path.read_bytes(), where=path)

  def __reduce__(self):
    return SentencePieceTokenizer, (self._model,)

  @property
  def num_pieces(self) -> int:
    """Number of pieces, bytes included."""
    return self._processor.GetPieceSize()

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
