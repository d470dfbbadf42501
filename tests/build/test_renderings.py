import contextlib
import dataclasses

import numpy as np
import pytest

from omni_jax.build.renderings import ENGLISH_REQUESTS, MANDARIN_REQUESTS, Rendered
from omni_jax.core.errors import UserError
from omni_jax.prepare.images import decode_image
from omni_jax.prepare.quarantine import Rejected
from omni_jax.prepare.schema import Example, Turn, validate

TEXT = "the quick brown fox jumps over the lazy dog, again and again and again"


def document(text, id="a"):
  return Example(id, "text", (Turn("assistant", text),))


def ink(pixels):
  """Returns where a picture is not its paper, by row and by column."""
  written = (pixels != pixels[0, 0]).any(axis=2)
  return written.any(axis=1), written.any(axis=0)


def test_a_text_becomes_a_picture_to_read():
  work = Rendered(width=200).open()
  (first,), (again,) = work([document(TEXT)]), work([document(TEXT)])
  assert first == again and validate(first).task == "visual_question"
  assert first.turns[0].text in ENGLISH_REQUESTS and first.turns[1].text == TEXT
  pixels = decode_image(first.image)
  rows, columns = ink(pixels)
  assert pixels.shape[1] == 200 and not columns[:12].any() and not columns[-12:].any()  # within its margins
  assert np.count_nonzero(np.diff(rows.astype(int)) == 1) >= 3  # lines
  assert len({decode_image(work([document(TEXT, id=str(number))])[0].image).shape for number in range(9)}) > 1


def test_each_text_has_a_picture_of_its_own():
  step = Rendered()
  pictures = [step.draw(text, number=0) for text in ("a dog", "a dot", "a  dog")]
  assert pictures[0].shape == pictures[1].shape and (pictures[0] != pictures[1]).any()
  wider = step.draw("a dog and a dot", number=0)
  assert ink(wider)[1].sum() > ink(pictures[0])[1].sum()


@pytest.mark.parametrize(
  ("text", "what"), [("你好", "the sign '你'"), ("x" * 99, "the word 'xxx"), ("a b " * 2000, "lines"), (" ", "0 signs")]
)
def test_what_cannot_be_drawn_is_put_aside(text, what):
  (result,) = Rendered().open()([document(text)])
  assert isinstance(result, Rejected) and what in result.reason


def test_chinese_is_drawn_where_a_font_has_it():
  step = None
  for font in ("NotoSansCJK-Regular.ttc", "wqy-microhei.ttc"):
    with contextlib.suppress(UserError):
      Rendered(font=font).open()
      step = Rendered(font=font, width=200, requests=MANDARIN_REQUESTS)
      break
  if step is None:
    pytest.skip("no font with Chinese characters: apt-get install fonts-wqy-microhei")
  (first,) = step.open()([document("今天天气很好，我们去公园散步。")])
  assert isinstance(first, Example) and first.turns[0].text in MANDARIN_REQUESTS
  assert (step.draw("你", number=0) != step.draw("好", number=0)).any()


def test_a_font_that_is_not_there_is_told():
  with pytest.raises(UserError, match="cannot open the font") as error:
    Rendered(font="no-such-font.ttf").open()
  assert "fonts-noto-cjk" in error.value.remedy
  with pytest.raises(UserError, match="0 requests"):
    dataclasses.replace(Rendered(), requests=())
