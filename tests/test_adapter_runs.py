"""The adapter runs of configs/emova/lora.py on a tiny released language model."""

import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.checkpoint.store import load_model
from omni_jax.core import trees
from omni_jax.nn.quantise import quantise
from tests.released import write_base
from tests.test_base_journey import losses, omni, started, train, write_sets


@pytest.fixture(scope="module")
def work(tmp_path_factory):
  work = tmp_path_factory.mktemp("adapted")
  write_sets(work)
  write_base(work / "hub")
  omni("vocabulary", "--base", work / "hub", "--workdir", work, "--codebook-size", 64)
  omni("convert", "import", "--workdir", work, "--stage", "base", "--source", work / "hub")
  return work


def numbers_of(stage) -> dict[str, np.ndarray]:
  _, model = load_model(stage)
  return {path: np.asarray(leaf) for path, leaf in trees.flatten(model).items()}


@pytest.mark.parametrize(
  ("config", "stage", "bits"),
  [
    ("tiny_lora", "lora", ""),
    ("tiny_nf4", "qlora_nf4", "nf4"),
    pytest.param("tiny_int8", "qlora_int8", "int8", marks=pytest.mark.slow),
  ],
)
def test_adapters_learn_on_a_base_that_stays(work, tmp_path, config, stage, bits):
  train(f"lora.py:{config}", work, "--set", "log_every=1")
  curve = losses(work, stage)
  assert np.mean(curve[-4:]) < 0.97 * np.mean(curve[:4])
  before, after = numbers_of(work / "stages" / "base"), numbers_of(work / "stages" / stage)
  for path, leaf in before.items():
    if f"codes.{path}.values" in after:
      np.testing.assert_array_equal(
        after[f"codes.{path}.values"], quantise(jnp.asarray(leaf), kind=bits, block=8).values
      )
    else:
      np.testing.assert_array_equal(after[f"base.{path}"], leaf)
  assert bool(bits) == any(path.startswith("codes") for path in after)
  assert all(path.startswith("pairs") for path in started(work, stage)["new"])
  omni("convert", "export", "--workdir", work, "--stage", stage, "--out", tmp_path)
  assert (tmp_path / "adapters" / "adapter_config.json").exists()
  if not bits:
    _check_with_peft(work, tmp_path)


def _check_with_peft(work, folder):
  """The base with the adapters, in PEFT, gives the logits of the folder in which they are merged."""
  torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
  peft = pytest.importorskip("peft")
  omni("convert", "export", "--workdir", work, "--stage", "base", "--out", folder / "base")
  base = transformers.AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
  adapted = peft.PeftModel.from_pretrained(base, folder / "adapters").eval()
  merged = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
  tokens = torch.arange(40).reshape(2, 20)
  with torch.no_grad():
    torch.testing.assert_close(adapted(tokens).logits, merged(tokens).logits, rtol=1e-4, atol=1e-4)
