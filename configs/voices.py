"""What the voices with critics share: the optimizer of both sides, and critics small enough for a CPU."""

from omni_jax.speech.discriminators import CriticConfig, PeriodsConfig, SpectraConfig
from omni_jax.train.optimizer import OptimizerConfig


def small_critics(*, spectra: SpectraConfig | None = None) -> CriticConfig:
  """Returns critics by HiFi-GAN's five periods with few channels; by spectra too where given."""
  periods = PeriodsConfig(periods=(2, 3, 5, 7, 11), widths=(8, 16, 32, 64))
  return CriticConfig(scales=None, periods=periods, spectra=spectra)


def published_optimizer(learning_rate: float, *, eps: float = 1e-8) -> OptimizerConfig:
  """Returns the AdamW of HiFi-GAN, VITS and DAC, with a cosine instead of their exponential."""
  return OptimizerConfig(
    learning_rate=learning_rate, schedule="cosine", weight_decay=0.01, beta1=0.8, beta2=0.99, eps=eps
  )


def small_optimizer(*, steps: int) -> OptimizerConfig:
  """Returns the same for a few thousand steps from nothing: five times as fast, after a warm-up, clipped."""
  return OptimizerConfig(
    learning_rate=1e-3, warmup_steps=min(50, steps), schedule="cosine", weight_decay=0.01, clip_norm=100.0, beta1=0.8,
    beta2=0.99,
  )  # fmt: skip
