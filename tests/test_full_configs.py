"""The published sizes as shapes: models, optimizers and batches fit each other, and to what the paper says."""

import types
from typing import Any

import jax
import numpy as np
import pytest

from configs.emova import full, lora
from omni_jax.checkpoint.card import make_card, write_card
from omni_jax.cli.configs import load_config
from omni_jax.convert.stage import Imported
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.models.emova import EMOVA_7B
from omni_jax.models.language import LanguageConfig
from omni_jax.tokens.extension import extend_vocabulary
from omni_jax.train.loop import Run
from omni_jax.train.optimizer import _scales, make_optimizer
from omni_jax.train.state import describe

# The 0.5B: 494,032,768 of Qwen2.5-0.5B, 3840 new rows of 896, the tower, a projector of 4,015,872.
SIZES = {"0_5b": 1_177_248_384, "3b": 3_781_100_544, "7b": 8_343_680_512, "72b": 73_539_265_536}
STAGES = ("prealign", "align", "tune")
HALF_A_TOWER = 359_414_784  # spec of the paper's second stage: sixteen blocks and the merger


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """A working folder with the vocabulary of Qwen2.5, and two stages of the 7B size without their weights."""
  work = tmp_path_factory.mktemp("work")
  names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|other_{i}|>" for i in range(19)))
  specials = {name: 151_643 + i for i, name in enumerate(names)}
  qwen: Any = types.SimpleNamespace(num_pieces=151_643, num_ids=151_665, specials=specials, fingerprint="0")
  extend_vocabulary(qwen, end="<|im_end|>").save(work / "text" / "vocabulary.json")
  for name in ("align", "base"):
    write_stage(work, name, EMOVA_7B)
  return work


def write_stage(work, name, model):
  """Writes the card of a stage, without its weights."""
  (work / "stages" / name).mkdir(parents=True)
  stage = Imported(name=name, model=model, source=work)
  write_card(work / "stages" / name, make_card(stage, workdir=work, ignored=(), starts=()))


def shapes_of(run) -> dict:
  return trees.flatten(jax.eval_shape(lambda: run.model.make(key=jax.random.key(0))))


def learning(run) -> dict[str, float]:
  """Returns path -> number of parameters that learn, layers counted one by one."""
  model = jax.eval_shape(lambda: run.model.make(key=jax.random.key(0)))
  parameters = describe(model)
  make_optimizer(run.optimizer, parameters=parameters, steps=run.steps)
  scales = _scales(run.optimizer.groups, parameters)
  counts = {path: np.broadcast_to(scales[path] > 0, parameter.shape).sum() if np.ndim(scales[path]) else
            (scales[path] > 0) * np.prod(parameter.shape) for path, parameter in parameters.items()}  # fmt: skip
  return {path: float(count) for path, count in counts.items() if count}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("size", SIZES)
def test_a_stage_of_a_published_size(workdir, size, stage):
  run = load_config(f"configs/emova/full.py:emova_{size}_{stage}", returns=Run, arguments=(workdir,))
  shapes = shapes_of(run)
  assert sum(leaf.size for leaf in shapes.values()) == SIZES[size]
  counts = learning(run)
  seen = sum(count for path, count in counts.items() if path.startswith("vision"))
  assert seen == {"prealign": 0, "align": HALF_A_TOWER, "tune": 675_759_104}[stage]
  parts = {path.partition(".")[0] for path in counts}
  assert parts == ({"projector"} if stage == "prealign" else {"decoder", "projector", "vision"})
  rate = run.optimizer.learning_rate
  assert rate == (1e-3 if stage == "prealign" else 1e-5 if size == "72b" else 2e-5)
  if stage == "tune":
    assert run.optimizer.groups[0].scale * rate == pytest.approx(2e-6)
  assert run.data.length == 8192 and run.data.patches >= run.data.images.max_pixels // 14**2


@pytest.mark.parametrize("name", ["emova_3b_align", "emova_7b_tune"])
def test_the_loss_of_a_published_size_takes_its_batch(workdir, name):
  run = getattr(full, name)(workdir)
  model = jax.eval_shape(lambda: run.model.make(key=jax.random.key(0)))
  batch = run.data.shapes()
  assert "branch_ids" not in batch  # so that rows are read by a kernel that holds no scores
  loss, metrics = jax.eval_shape(run.loss, model, batch, jax.random.key(0))
  assert loss.shape == () and {"loss_text", "loss_unit", "loss_style"} <= set(metrics)


@pytest.mark.parametrize("name", ["lora", "qlora_int8", "qlora_nf4"])
def test_adapters_of_the_published_size(workdir, name):
  run = getattr(lora, name)(workdir)
  assert run.start[0].checkpoint == workdir / "stages" / "align"
  shapes, counts = shapes_of(run), learning(run)
  assert {path.partition(".")[0] for path in counts} == {"pairs", "base"}
  assert not [path for path in counts if path.startswith("base.decoder")]
  pairs = [path for path in shapes if path.startswith("pairs.")]
  assert len(pairs) == 2 * 7 and all(128 in shapes[path].shape for path in pairs)
  codes = {str(leaf.dtype) for path, leaf in shapes.items() if path.endswith(".values")}
  assert codes == {"lora": set(), "qlora_int8": {"int8"}, "qlora_nf4": {"uint8"}}[name]


@pytest.mark.parametrize("stage", STAGES)
def test_an_imported_base_has_the_stages_of_its_size(workdir, stage):
  own, published = (getattr(full, f"{name}_{stage}")(workdir) for name in ("own", "emova_7b"))
  assert own == published


def test_a_base_without_a_tower_is_refused(workdir, tmp_path):
  with pytest.raises(UserError, match="no such stage"):
    full.own_prealign(tmp_path)
  (tmp_path / "text").symlink_to(workdir / "text")
  write_stage(tmp_path, "base", LanguageConfig(decoder=EMOVA_7B.decoder, image_token=155_761))
  with pytest.raises(UserError, match="import the base with --vision"):
    full.own_prealign(tmp_path)
  write_stage(tmp_path, "align", EMOVA_7B.vision)
  with pytest.raises(UserError, match="adapters go on a language model"):
    lora.lora(tmp_path)
