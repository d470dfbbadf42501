import io

import numpy as np
import pytest
from PIL import Image

from omni_jax.core.styles import ALL_STYLES
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.writer import write_split
from omni_jax.tokens.text import train_text_tokenizer
from omni_jax.tokens.vocabulary import make_vocabulary

VOICES = ("engine:one", "engine:two")
WORDS = ("red", "blue", "dog", "star", "house", "old", "new", "the", "is")


def sentence(draw) -> str:
  return " ".join(draw.choice(WORDS, draw.integers(1, 6)))


def spoken(role: str, draw: np.random.Generator) -> Turn:
  style = str(ALL_STYLES[draw.integers(24)])
  units = np.repeat(draw.integers(0, 64, 12), draw.integers(1, 3, 12)).astype(np.int32)
  return Turn(role, sentence(draw), units=units, style=style, heard=style, voice=VOICES[len(units) % 2])


def picture(draw) -> bytes:
  data = io.BytesIO()
  Image.fromarray(draw.integers(0, 255, (*draw.integers(8, 30, 2), 3)).astype(np.uint8)).save(data, "PNG")
  return data.getvalue()


def examples(kind: str, draw) -> list[Example]:
  turns = {
    "text": lambda: (Turn("user", sentence(draw)), Turn("assistant", sentence(draw)))[: draw.integers(1, 3)],
    "caption": lambda: (Turn("user", ""), Turn("assistant", sentence(draw))),
    "annotations": lambda: (Turn("user", "what"), Turn("assistant", sentence(draw))) * int(draw.integers(1, 4)),
    "speech": lambda: (spoken("user", draw),),
    "dialogue": lambda: (spoken("user", draw), spoken("assistant", draw)),
    "spoken_visual_question": lambda: (spoken("user", draw), spoken("assistant", draw)),
  }[kind]
  image = (lambda: picture(draw)) if kind in ("caption", "annotations", "spoken_visual_question") else lambda: b""
  return [Example(f"{kind}/{i}", kind, tuple(turns()), image()) for i in range(20)]


@pytest.fixture(scope="session")
def workdir(tmp_path_factory):
  """A working folder with small sets of every kind, and a vocabulary."""
  folder = tmp_path_factory.mktemp("work")
  draw = np.random.default_rng(0)
  for kind in ("text", "caption", "annotations", "speech", "dialogue", "spoken_visual_question"):
    write_split(folder / "units" / kind, "train", examples(kind, draw))
  texts = [sentence(draw) for _ in range(200)]
  tokenizer = train_text_tokenizer(texts, path=folder / "text" / "tokenizer.model", num_pieces=320)
  make_vocabulary(tokenizer, text_size=336, codebook_size=64).save(folder / "text" / "vocabulary.json")
  return folder
