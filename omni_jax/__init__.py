"""omni_jax: train an assistant that sees, hears and speaks with emotion, in JAX."""

__version__ = "0.1.0"
