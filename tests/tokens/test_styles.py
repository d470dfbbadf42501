from omni_jax.core.styles import ALL_STYLES
from omni_jax.tokens.styles import decode_style, encode_style


def test_every_style_comes_back(vocabulary):
  for style in ALL_STYLES:
    assert decode_style(encode_style(style, vocabulary), vocabulary) == style


def test_three_tokens_in_another_order_are_no_style(vocabulary):
  ids = encode_style(ALL_STYLES[5], vocabulary)
  assert decode_style(ids[::-1], vocabulary) is None
  assert decode_style(ids[:2], vocabulary) is None
  assert decode_style([*ids[:2], 3], vocabulary) is None
