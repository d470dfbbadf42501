import contextlib
import time

import pytest

from omni_jax.core.errors import UserError
from omni_jax.prepare.speakable import ENGLISH, MANDARIN, Speakable


@pytest.mark.parametrize(
  ("written", "said"),
  [
    ("Sure! **Paris** is [the capital](https://x.org/a_(b)) of *France*.", "Sure! Paris is the capital of France."),
    ("# Tea\n\n1. Boil *water*\n2. Wait, then pour.\n- __Drink__ it", "Tea. Boil water. Wait, then pour. Drink it."),
    ("> He said\n> so.\n\n---\n\nSee https://x.org/a?b=c&d or www.y.org.", "He said so. See or."),
    ("![a cat](cat.png) A cat &amp; a dog 😀 run `fast`.", "A cat & a dog run fast."),
    ("Mail me@x.org (https://x.org) today", "Mail today"),
    ("It's 25 °C, that's 5% more—really?", "It's 25 °C, that's 5% more—really?"),
    ("Café  naïve\u00a0words", "Café naïve words"),
    ("It is snake_case_free and 2 * 3 ~~no~~", None),  # a star that is no emphasis is a sign nobody says
    ("**Bold *and* more**, _fine_", "Bold and more, fine"),
  ],
)
def test_formatting_goes_and_words_stay(written, said):
  if said is None:
    with pytest.raises(UserError, match="the sign"):
      ENGLISH.spoken(written, where="x")
  else:
    assert ENGLISH.spoken(written, where="x") == said


@pytest.mark.parametrize(
  ("written", "what"),
  [
    ("Try:\n```python\nprint(1)\n```", "code"),
    ("Call `os.path.join(a, b)` now", "code"),
    ("Like this:\n\n    x = f(y);\n", "code"),
    ("| a | b |\n|---|---|\n| 1 | 2 |", "a table"),
    ("So $$x^2$$ holds", "a formula"),
    ("So \\(x\\) and \\frac{1}{2}", "a formula"),
    ("So $a_1 = 2$ holds", "a formula"),
    ("<div>hi</div>", "markup"),
    ("a {b} c", "the sign '{'"),
    ("你好", "as english"),
    ("привет", "the sign"),
    ("https://x.org", "0 words"),
    ("word " * 81, "81 words"),
    ("  ", "no text"),
  ],
)
def test_what_cannot_be_said_is_put_aside(written, what):
  with pytest.raises(UserError, match=what.replace("{", r"\{")):
    ENGLISH.spoken(written, where="x")


@pytest.mark.parametrize("sign", ["*a ", "~~a", "a.", "[", "word ", "![", "$", "x\n\n"])
def test_a_long_text_is_put_aside_before_it_takes_hours(sign):
  start = time.process_time()
  with pytest.raises(UserError, match=r"\d{6} signs"):
    ENGLISH.spoken(sign * 300_000, where="x")
  assert time.process_time() - start < 5
  picture = f"![a cat](data:image/png;base64,{'A' * 200_000})"
  assert ENGLISH.spoken(f"{picture} *This* is a cat.", where="x") == "This is a cat."


@pytest.mark.parametrize("sign", ["*a ", "~~a", "a.", "[", "![", "a$_", "x\n\n\n", "-", "&#", "(data:"])
def test_the_longest_text_that_is_looked_at_takes_seconds(sign):
  start = time.process_time()
  with contextlib.suppress(UserError):
    ENGLISH.spoken("a" + (sign * 8000)[:7990], where="x")
  assert time.process_time() - start < 10


def test_a_sign_of_a_number_with_thousands_of_digits_is_put_aside():
  with pytest.raises(UserError, match="digits"):
    ENGLISH.spoken(f"a &#{'9' * 5000}; b", where="x")


def test_mandarin():
  assert MANDARIN.spoken("**你好**，我用 iPhone。", where="x") == "你好，我用 iPhone。"
  for written in ("hello", "我有 3 个", "你" * 121):
    with pytest.raises(UserError, match=r"as mandarin|121 words"):
      MANDARIN.spoken(written, where="x")


def test_numbers_that_make_no_sense():
  with pytest.raises(UserError, match="'klingon'"):
    Speakable(language="klingon")
