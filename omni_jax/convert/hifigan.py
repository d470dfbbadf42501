"""The HiFi-GAN generator under the names of the original, which fairseq and VITS kept."""

from omni_jax.convert.table import Rule
from omni_jax.convert.weight_norm import Spelling, convolution_rules
from omni_jax.speech.hifigan import HiFiGANConfig


def hifigan_rules(config: HiFiGANConfig, *, spelling: Spelling = Spelling.HOOK, up: str = "ups") -> list[Rule]:
  """Returns the table of a generator; paths are relative to it.

  Transposed convolutions are `ups` in the originals and `upsampler` in transformers (`up`).
  `resblocks.N` counts through all stages; inside, `convs1` are dilated and `convs2` plain, and type 2 has `convs`.
  """
  normed, ends = config.normed, config.normed and config.normed_ends
  rules = convolution_rules("conv_pre", "first", normed=ends, spelling=spelling)
  if config.condition:
    rules += convolution_rules("cond", "condition", normed=False)
  for stage in range(len(config.rates)):
    rules += convolution_rules(f"{up}.{stage}", f"up.{stage}", normed=normed, transposed=True, spelling=spelling)
    for block, dilations in enumerate(config.block_dilations):
      theirs, ours = f"resblocks.{stage * len(config.block_dilations) + block}", f"blocks.{stage}.{block}"
      pairs = [("convs1", "dilated"), ("convs2", "plain")] if config.residual == "1" else [("convs", "dilated")]
      for index in range(len(dilations)):
        for name, own in pairs:
          rules += convolution_rules(
            f"{theirs}.{name}.{index}", f"{ours}.{own}.{index}", normed=normed, spelling=spelling
          )
  return rules + convolution_rules("conv_post", "last", normed=ends, bias=config.last_bias, spelling=spelling)
