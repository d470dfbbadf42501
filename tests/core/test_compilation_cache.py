import jax
import jax.numpy as jnp
import pytest

from omni_jax.core.compilation_cache import DEFAULT_FOLDER, compiling_afresh, enable_compilation_cache


@pytest.fixture(autouse=True)
def cache_as_before(monkeypatch):
  names = ("compilation_cache_dir", "persistent_cache_min_compile_time_secs", "persistent_cache_min_entry_size_bytes")
  before = {f"jax_{name}": getattr(jax.config, f"jax_{name}") for name in names}
  yield
  for name, value in before.items():
    jax.config.update(name, value)


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "xla"))
  assert enable_compilation_cache() == tmp_path / "xla"
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  jax.jit(lambda x: jnp.sin(x) @ x.T + 41)(jnp.ones((3, 3))).block_until_ready()
  assert list((tmp_path / "xla").iterdir())


def test_otherwise_the_home_does(monkeypatch):
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
  assert enable_compilation_cache() == DEFAULT_FOLDER.expanduser()
  assert jax.config.jax_compilation_cache_dir == str(DEFAULT_FOLDER.expanduser())


def test_what_is_compiled_afresh_leaves_and_takes_nothing(tmp_path, monkeypatch):
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "xla"))
  enable_compilation_cache()
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  lowered = jax.jit(lambda x: jnp.cos(x) @ x.T + 43).lower(jnp.ones((3, 3)))
  with compiling_afresh():
    lowered.compile()
  assert not list((tmp_path / "xla").glob("*"))
  jax.jit(lambda x: jnp.tan(x) @ x.T + 44).lower(jnp.ones((3, 3))).compile()
  assert list((tmp_path / "xla").glob("*")), "outside the cache is on again"
