"""A SentencePiece model of pair merges (BPE) as the content of a Hugging Face `tokenizer.json` with the same ids.

Their merges are pairs in order, SentencePiece's are pieces with a score; a piece stands for every pair that makes it.
Between two pairs that join to one piece SentencePiece takes the left one in the text, theirs the one listed first.
"""

from collections.abc import Mapping
from typing import Any

from omni_jax.core.errors import UserError
from omni_jax.tokens.text import SentencePieceTokenizer

_SPACE = "\u2581"


def sentencepiece_json(tokenizer: SentencePieceTokenizer, names: Mapping[str, int]) -> dict[str, Any]:
  """Returns the content of the file.

  Args:
    tokenizer: made here or released.
    names: name -> id of the tokens behind it, which their library finds in text.

  Raises:
    UserError: a model of another kind, or one that changes text before it cuts it.
  """
  from sentencepiece.sentencepiece_model_pb2 import ModelProto  # pyright: ignore[reportAttributeAccessIssue] made at import

  model = ModelProto.FromString(tokenizer.serialized)
  _check(model)
  pieces = model.pieces
  vocab = {piece.piece: i for i, piece in enumerate(pieces)}
  normal = {piece.piece: piece.score for piece in pieces if piece.type == piece.NORMAL}
  unknown = next(piece.piece for piece in pieces if piece.type == piece.UNKNOWN)
  rank = sorted((name for name in normal if len(name) > 1), key=lambda name: (-normal[name], vocab[name]))
  pairs = ([name[:cut], name[cut:]] for name in rank for cut in range(1, len(name)))
  prefix = [{"type": "Prepend", "prepend": _SPACE}] if model.normalizer_spec.add_dummy_prefix else []
  spaces = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
  back = {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}
  strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
  flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
  return {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [{"id": i, "content": name, **flags} for name, i in sorted(names.items(), key=lambda n: n[1])],
    "normalizer": {"type": "Sequence", "normalizers": [*prefix, spaces]},
    "pre_tokenizer": None,
    "post_processor": None,
    "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]},
    "model": {
      "type": "BPE",
      "dropout": None,
      "unk_token": unknown,
      "continuing_subword_prefix": None,
      "end_of_word_suffix": None,
      "fuse_unk": True,
      "byte_fallback": any(piece.type == piece.BYTE for piece in pieces),
      "ignore_merges": False,
      # Their library numbers added tokens anew unless the model knows them.
      "vocab": vocab | dict(names),
      "merges": [pair for pair in pairs if pair[0] in normal and pair[1] in normal],
    },
  }


def _check(model: Any) -> None:
  trainer, normalizer = model.trainer_spec, model.normalizer_spec
  problems = []
  if trainer.model_type != trainer.BPE:
    problems.append("it is no BPE model")
  if normalizer.precompiled_charsmap:
    problems.append(f"it normalises text ({normalizer.name})")
  if normalizer.remove_extra_whitespaces or trainer.treat_whitespace_as_suffix:
    problems.append("it moves or removes white space")
  if problems:
    raise UserError(
      "; ".join(problems),
      where="tokenizer.model",
      rule="a BPE model that reads text as it is can be written as a tokenizer.json",
      remedy="copy the tokenizer.json of its release",
    )
