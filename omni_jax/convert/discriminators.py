"""The critics of HiFi-GAN and VITS under the names of the original, for training that goes on from a released one.

Scales come first, then periods, as VITS numbers them in one list; HiFi-GAN has a list for each (`first` 0 in both).
"""

import dataclasses

from omni_jax.convert.table import Rule, prefixed
from omni_jax.convert.weight_norm import Spelling, convolution_rules
from omni_jax.speech.discriminators import CriticConfig, PeriodsConfig, ScalesConfig


def scale_rules(config: ScalesConfig, *, first: int = 0, spelling: Spelling = Spelling.HOOK) -> list[Rule]:
  """Returns the table of the critics by scales; the first of the list is number `first`."""
  rules = []
  for scale in range(config.scales):
    own = _layers(len(config.layers), spelling=spelling)
    rules += prefixed(own, theirs=f"discriminators.{first + scale}.", ours=f"scales.{scale}.")
  return rules


def period_rules(config: PeriodsConfig, *, first: int = 0, spelling: Spelling = Spelling.HOOK) -> list[Rule]:
  """Returns the table of the critics by periods, whose kernels are planes with one column."""
  rules = []
  for number in range(len(config.periods)):
    own = [_as_plane(rule) for rule in _layers(len(config.widths), spelling=spelling)]
    rules += prefixed(own, theirs=f"discriminators.{first + number}.", ours=f"periods.{number}.")
  return rules


def vits_critic_rules(config: CriticConfig, *, spelling: Spelling = Spelling.HOOK) -> list[Rule]:
  """Returns the table of scales and periods in one list."""
  assert config.scales and config.periods and not config.spectra, "VITS has critics by scales and by periods"
  scales = scale_rules(config.scales, spelling=spelling)
  return scales + period_rules(config.periods, first=config.scales.scales, spelling=spelling)


def _layers(number: int, *, spelling: Spelling) -> list[Rule]:
  rules = []
  for layer in range(number):
    rules += convolution_rules(f"convs.{layer}", f"layers.{layer}", spelling=spelling)
  return rules + convolution_rules("conv_post", "score", spelling=spelling)


def _as_plane(rule: Rule) -> Rule:
  theirs, _, ours = rule.pattern.partition(" -> ")
  return rule if theirs == "..." else dataclasses.replace(rule, pattern=f"{theirs} 1 -> {ours}")
