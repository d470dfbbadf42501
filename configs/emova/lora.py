"""Fine-tuning by adapters on the language model, which itself stays; in full precision, int8 or nf4 (QLoRA).

Source: the LoRA example of github.com/emova-ollm/EMOVA: rank 128, alpha 256, dropout 0.05 on every linear layer of the
language model but its head, at 2e-4; projector and image tower are trained in full, at 2e-5 and 2e-6; tables stay.
Command: omni train --config configs/emova/lora.py:qlora_nf4 --workdir runs/7b
  then: omni convert export --workdir runs/7b --stage qlora_nf4, which writes the adapters in PEFT's format too
Hardware and hours: never run at full size here; the 7B base takes 15 GB in bfloat16, 4.3 GB in nf4.
Expect: as `tune`, a little worse; nothing is published.
"""

import dataclasses
from pathlib import Path

from configs.emova import parts
from configs.emova.full import TINY
from configs.emova.parts import FULL, Scale
from omni_jax.checkpoint.card import model_config
from omni_jax.checkpoint.initialise import Start
from omni_jax.core.errors import UserError
from omni_jax.models.emova import EmovaConfig
from omni_jax.models.language import LanguageConfig
from omni_jax.nn.lora import AdaptedConfig
from omni_jax.train.loop import Run
from omni_jax.train.losses import Dropping
from omni_jax.train.optimizer import Group


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapters:
  """Sizes of the adapters, their rate, and the steps of the run."""

  rank: int
  alpha: float
  rate: float
  steps: int
  block: int  # inputs that share a scale, where the base is in few bits


PUBLISHED = Adapters(rank=128, alpha=256.0, rate=2e-4, steps=FULL.steps[2], block=64)
SMALL = Adapters(rank=4, alpha=8.0, rate=2e-2, steps=24, block=8)


def lora(workdir: Path) -> Run:
  """Adapters on the stage `align`."""
  return _run(workdir, bits="")


def qlora_int8(workdir: Path) -> Run:
  """Adapters on the stage `align`, its matrices in eight bits."""
  return _run(workdir, bits="int8")


def qlora_nf4(workdir: Path) -> Run:
  """Adapters on the stage `align`, its matrices in four bits."""
  return _run(workdir, bits="nf4")


def tiny_lora(workdir: Path) -> Run:
  """The same in seconds, on a tiny stage `base`."""
  return _tiny(workdir, bits="")


def tiny_int8(workdir: Path) -> Run:
  """The same in seconds, in eight bits."""
  return _tiny(workdir, bits="int8")


def tiny_nf4(workdir: Path) -> Run:
  """The same in seconds, in four bits."""
  return _tiny(workdir, bits="nf4")


def _tiny(workdir: Path, *, bits: str) -> Run:
  return _run(workdir, bits=bits, start="base", adapters=SMALL, scale=TINY)


def _run(workdir: Path, *, bits: str, start: str = "align", adapters: Adapters = PUBLISHED, scale: Scale = FULL) -> Run:
  model = model_config(workdir / "stages" / start)
  if not isinstance(model, (EmovaConfig, LanguageConfig)):
    raise UserError(
      f"the stage holds a {type(model).__name__}",
      where=workdir / "stages" / start,
      rule="adapters go on a language model, with or without an image tower",
      remedy="choose a stage such as align, or an imported base",
    )
  sees = isinstance(model, EmovaConfig)
  whole = (Group(pattern=r"base\.projector", scale=0.1), Group(pattern=r"base\.vision", scale=0.01)) if sees else ()
  sources = parts.instructions(workdir, images=sees)
  return Run(
    name=f"qlora_{bits}" if bits else "lora",
    model=AdaptedConfig(
      base=model,
      targets=(r"decoder\.blocks",),
      rank=adapters.rank,
      alpha=adapters.alpha,
      dropout=0.05,
      bits=bits,
      block=adapters.block,
    ),
    loss=Dropping(loss=parts.loss_of(model)),
    optimizer=parts.optimizer(
      adapters.rate,
      steps=adapters.steps,
      groups=(Group(pattern=".*", scale=0.0), Group(pattern="pairs", scale=1.0), *whole),
    ),
    data=parts.batches(workdir, model=model, scale=scale, sources=sources, stage=2),
    steps=adapters.steps,
    step=scale.step,
    start=(Start(workdir / "stages" / start),),
  )
