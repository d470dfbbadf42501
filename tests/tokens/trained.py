"""A small tokenizer.json made on the spot, in the manner of Qwen2."""

import random

SENTENCES = [
  f"the {a} {b} is {c}" for a in ("red", "blue", "big") for b in ("dog", "star", "house") for c in ("old", "new")
]


# The special tokens of several families, so that one small tokenizer serves every template.
SPECIALS = (
  *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<|begin_of_text|>", "<|start_header_id|>"),
  *("<|end_header_id|>", "<|eot_id|>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<|User|>", "<|Assistant|>"),
  *("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
)
CUT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def train_json(units=0):
  """A byte-level tokenizer in the manner of Qwen2, with units in an order of chance."""
  from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

  tokenizer = Tokenizer(models.BPE())
  tokenizer.normalizer = normalizers.NFC()
  byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(CUT), "isolated"), byte_level])
  tokenizer.decoder = decoders.ByteLevel()
  alphabet = pre_tokenizers.ByteLevel.alphabet()
  trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
  tokenizer.train_from_iterator([text + "\n\n" for text in SENTENCES] * 3, trainer)
  tokenizer.add_special_tokens(list(SPECIALS))
  tokenizer.add_tokens(["<tool_call>"])
  scrambled = random.Random(0).sample(range(units), units)
  flags = {"single_word": True, "lstrip": False, "rstrip": False, "normalized": True}
  tokenizer.add_tokens([AddedToken(f"<|speech_{unit}|>", **flags) for unit in scrambled])
  return tokenizer.to_str()
