import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.generate.sampling import Sampling, choose

LOGITS = jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05]]))
ALL = jnp.ones((1, 4), bool)


def draws(sampling: Sampling, allowed=ALL, count: int = 2000) -> np.ndarray:
  logits, allowed = jnp.tile(LOGITS, (count, 1)), jnp.tile(allowed, (count, 1))
  chosen = choose(logits, allowed, sampling=sampling, key=jax.random.key(0))
  return np.bincount(np.asarray(chosen), minlength=4) / count


def test_the_best_allowed_token_is_taken():
  allowed = jnp.array([[False, False, True, True]])
  assert draws(Sampling(), allowed)[2] == 1


def test_draws_follow_the_probabilities():
  np.testing.assert_allclose(draws(Sampling(temperature=1.0)), [0.5, 0.3, 0.15, 0.05], atol=0.03)


def test_only_the_likeliest_are_drawn():
  np.testing.assert_allclose(draws(Sampling(temperature=1.0, top_p=0.7)), [0.625, 0.375, 0, 0], atol=0.03)
  assert draws(Sampling(temperature=1.0, top_p=0.1))[0] == 1


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_impossible_settings_are_refused(wrong):
  with pytest.raises(UserError, match="sampling"):
    Sampling(**wrong)
