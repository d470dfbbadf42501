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


def test_the_likeliest_are_those_that_sorting_finds():
  logits = 3 * jax.random.normal(jax.random.key(1), (8, 40))
  share = 0.8
  ordered = np.sort(np.asarray(jax.nn.softmax(logits)), axis=-1)[:, ::-1]
  kept = [int(np.searchsorted(np.cumsum(row), share)) + 1 for row in ordered]
  drawn = jax.vmap(
    lambda key: choose(logits, jnp.ones_like(logits, bool), sampling=Sampling(temperature=1.0, top_p=share), key=key)
  )(jax.random.split(jax.random.key(0), 4000))
  for row, count in enumerate(kept):
    likeliest = np.argsort(np.asarray(logits[row]))[::-1][:count]
    assert set(np.unique(np.asarray(drawn)[:, row])) == set(likeliest)


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_impossible_settings_are_refused(wrong):
  with pytest.raises(UserError, match="sampling"):
    Sampling(**wrong)
