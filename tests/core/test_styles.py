import pytest

from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES, Style


def test_there_are_twenty_four_and_each_round_trips():
  assert len(set(ALL_STYLES)) == 24
  for style in ALL_STYLES:
    assert Style.parse(str(style)) == style
    assert Style.from_indices(*style.indices) == style


@pytest.mark.parametrize("text", ["", "female", "female-bored-high", "female-happy-high-fast"])
def test_unknown_styles_are_refused_with_the_rule(text):
  with pytest.raises(UserError, match="rule"):
    Style.parse(text)
