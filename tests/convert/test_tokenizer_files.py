"""What AutoTokenizer and AutoProcessor make of the files: the ids that our dialogue writes."""

import dataclasses
import json
import random

import numpy as np
import pytest
from PIL import Image

from omni_jax.build.vocabulary import BaseVocabularyConfig, build_base_vocabulary
from omni_jax.convert.emova import emova_shapes
from omni_jax.convert.emova_folder import export_folder
from omni_jax.convert.tokenizer_files import token_names, tokenizer_files, write_tokenizer
from omni_jax.core.errors import UserError
from omni_jax.models.emova import EmovaConfig
from omni_jax.models.projectors import ProjectorConfig
from omni_jax.tokens.answers import JsonLayout, NativeLayout, Reply
from omni_jax.tokens.dialogue import Dialogue, Question
from omni_jax.tokens.extension import extend_vocabulary, load_tokenizer, unit_name
from omni_jax.tokens.hugging_face import HuggingFaceTokenizer
from omni_jax.tokens.templates import QWEN2, TINY
from omni_jax.tokens.text import SentencePieceTokenizer, train_text_tokenizer
from omni_jax.tokens.vocabulary import make_vocabulary
from tests.models.twins import decoder_config, vision_config
from tests.tokens.trained import SENTENCES, train_json

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module", params=["base", "released", "our own"])
def dialogue(request, tmp_path_factory):
  """Writers of a base with units added here, of a released tokenizer, and of one trained here."""
  if request.param == "our own":
    path = tmp_path_factory.mktemp("text") / "tokenizer.model"
    tokenizer = train_text_tokenizer(SENTENCES * 3, path=path, num_pieces=300)
    vocabulary = make_vocabulary(tokenizer, text_size=320, codebook_size=64)
    layout = NativeLayout(text_chunk=2, unit_chunk=3)
    return Dialogue(vocabulary=vocabulary, tokenizer=tokenizer, template=TINY, layout=layout)
  released = request.param == "released"
  tokenizer = HuggingFaceTokenizer(train_json(units=64 if released else 0))
  vocabulary = extend_vocabulary(tokenizer, end="<|im_end|>", codebook_size=64, native=not released)
  return Dialogue(vocabulary=vocabulary, tokenizer=tokenizer, template=QWEN2, layout=JsonLayout())


def written(dialogue, folder, **options):
  parts = {"vocabulary": dialogue.vocabulary, "template": dialogue.template, **options}
  write_tokenizer(folder, tokenizer_files(dialogue.tokenizer, **parts), own=folder / "none")
  return folder


def ids(tokenizer, text):
  return tokenizer(text, add_special_tokens=False).input_ids


def test_text_and_names_have_the_ids_of_the_vocabulary(dialogue, tmp_path):
  theirs = transformers.AutoTokenizer.from_pretrained(written(dialogue, tmp_path))
  vocabulary, draw = dialogue.vocabulary, random.Random(0)
  for alphabet in ("abc the dog red", " \n\t{}\"'", "äß中文🙂é old", "0123 unit "):
    for length in range(1, 25):
      text = "".join(draw.choice(alphabet) for _ in range(length))
      assert ids(theirs, text) == dialogue.tokenizer.encode(text), text
      assert theirs.decode(ids(theirs, text)) == text
  for unit in (0, 5, 63):
    assert ids(theirs, unit_name(unit)) == [vocabulary.unit_ids[unit]]
  assert ids(theirs, "<image>a<pad>") == [
    vocabulary.control("image"),
    *dialogue.tokenizer.encode("a"),
    vocabulary.control("pad"),
  ]
  assert (theirs.eos_token_id, theirs.pad_token_id) == (vocabulary.control("end"), vocabulary.control("pad"))
  used = {i for name in (vocabulary.controls, vocabulary.styles, vocabulary.specials) for i in name.values()}
  assert {theirs.convert_tokens_to_ids(theirs.convert_ids_to_tokens(i)) for i in used} == used
  ids_of_ends = {"eos_token_id": vocabulary.control("end"), "pad_token_id": vocabulary.control("pad")}
  assert json.loads((tmp_path / "generation_config.json").read_text()) == ids_of_ends


def test_a_conversation_has_the_ids_of_our_writer(dialogue, tmp_path):
  theirs = transformers.AutoTokenizer.from_pretrained(written(dialogue, tmp_path))
  messages = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "the red dog"}]},
    {"role": "assistant", "content": "is old"},
    {"role": "user", "content": "the big\nhouse?"},
  ]
  asked = Question(text="the red dog", image_tokens=1)
  history = [(asked, Reply(text="is old"))]
  found = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
  assert found == dialogue.prompt(Question(text="the big\nhouse?"), history=history)
  found = theirs.apply_chat_template(messages[:1], add_generation_prompt=True, return_dict=False)
  assert found == dialogue.prompt(asked)


def test_the_processor_writes_what_our_model_reads(dialogue, tmp_path):
  vocabulary = dialogue.vocabulary
  sizes = {"vocab_size": vocabulary.text_size, "extra_vocab_size": vocabulary.extra_size}
  config = EmovaConfig(
    decoder=decoder_config(**sizes),
    vision=vision_config(),
    projector=ProjectorConfig(inputs=12, outputs=16),
    image_token=vocabulary.control("image"),
  )
  draw = np.random.default_rng(0)
  leaves = {path: draw.normal(0, 0.1, shape).astype(np.float32) for path, shape in emova_shapes(config).items()}
  export_folder(config, leaves, tmp_path, scheme="hf", pixels=(16, 400))
  processor = transformers.AutoProcessor.from_pretrained(written(dialogue, tmp_path), trust_remote_code=True)
  pictures = [Image.new("RGB", (12, 8)), Image.new("RGB", (16, 4), (9, 8, 7))]
  conversations = [
    [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "the dog?"}]}],
    [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "the big red star"}]}],
  ]
  inputs = processor(text=conversations, images=pictures, return_tensors="pt")
  assert inputs["image_grid_thw"].tolist() == [[1, 4, 6], [1, 2, 8]] and inputs["pixel_values"].shape == (40, 24)
  prompts = [
    dialogue.prompt(Question(text="the dog?", image_tokens=6)),
    dialogue.prompt(Question(text="the big red star", image_tokens=4)),
  ]
  for row, mask, prompt in zip(inputs["input_ids"], inputs["attention_mask"], prompts, strict=True):
    assert row[mask == 1].tolist() == prompt and mask[-1] == 1, "padded on the left"
  model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True)
  answers = model.generate(**inputs, max_new_tokens=3)
  assert answers.shape == (2, inputs["input_ids"].shape[1] + 3) or vocabulary.control("end") in answers[:, -3:]
  with pytest.raises(ValueError, match="2 images, but the texts hold 1 <image>"):
    processor(text="<image> what?", images=pictures)
  assert len(processor(text="the dog")["input_ids"][0]) == len(dialogue.tokenizer.encode("the dog"))


def test_names_are_those_of_the_release(dialogue):
  names, vocabulary = token_names(dialogue.vocabulary), dialogue.vocabulary
  assert names["<image>"] == vocabulary.control("image") and names["<|speech_7|>"] == vocabulary.unit_ids[7]
  assert ("<|emotion-happy|>" in names) == bool(vocabulary.styles)
  assert ("<|user|>" in names) == (not vocabulary.specials) and "<|image|>" not in names
  assert len(set(names.values())) == len(names)


def test_a_model_that_theirs_cannot_equal_is_refused():
  import io

  import sentencepiece

  model = io.BytesIO()
  options = {"vocab_size": 24, "hard_vocab_limit": False, "minloglevel": 2}
  sentences = iter(SENTENCES * 3)
  sentencepiece.SentencePieceTrainer.Train(sentence_iterator=sentences, model_writer=model, **options)
  tokenizer = SentencePieceTokenizer(model.getvalue())
  vocabulary = make_vocabulary(tokenizer, text_size=64, codebook_size=64)
  with pytest.raises(UserError, match=r"no BPE model; it normalises text \(nmt_nfkc\); it moves or removes white"):
    tokenizer_files(tokenizer, vocabulary=vocabulary, template=None)


def test_a_template_of_another_base_is_refused(dialogue):
  other = QWEN2 if dialogue.template == TINY else dataclasses.replace(QWEN2, assistant_close=("<|eom_id|>",))
  with pytest.raises(UserError, match="the template spells"):
    tokenizer_files(dialogue.tokenizer, vocabulary=dialogue.vocabulary, template=other)


def test_a_sentencepiece_base_spells_its_units_and_keeps_its_own_file(tmp_path):
  base, own, out = tmp_path / "base", tmp_path / "work" / "text", tmp_path / "out"
  out.mkdir()
  train_text_tokenizer(SENTENCES * 3, path=base / "tokenizer.model", num_pieces=300)
  (base / "added_tokens.json").write_text(json.dumps({"<s>": 300, "</s>": 301}))
  vocabulary = build_base_vocabulary(BaseVocabularyConfig(base=base, codebook_size=16), own.parent)
  write_tokenizer(out, tokenizer_files(load_tokenizer(own), vocabulary=vocabulary, template=None), own=own)
  names = json.loads((out / "added_tokens.json").read_text())
  assert names[unit_name(15)] == vocabulary.unit_ids[15] and names["<|pitch-low|>"] == vocabulary.styles["pitch-low"]
  assert (out / "tokenizer.model").read_bytes() == (base / "tokenizer.model").read_bytes()
  theirs = transformers.AutoTokenizer.from_pretrained(out)
  assert ids(theirs, SENTENCES[0] + unit_name(3)) == [*load_tokenizer(own).encode(SENTENCES[0]), vocabulary.unit_ids[3]]
