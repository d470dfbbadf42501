"""Exported folders in `transformers`: every tensor is read, logits and greedy ids are ours."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.convert.emova_folder import export_folder
from omni_jax.convert.verify import compare, torch_patches
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.prepare.images import patchify
from tests.models.twins import emova_config, shaken

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

GROUPED = {"num_heads": 7, "num_kv_heads": 1, "head_dim": 6}
CONFIGS = {
  "qwen2 tied": emova_config(tied=True, **GROUPED),
  "qwen2 untied": emova_config(tied=False, **GROUPED),
  "llama": emova_config(tied=False, qkv_bias=False),
}


@functools.cache
def made(config):
  return shaken(jax.jit(lambda: config.make(key=jax.random.key(0)))())


def exported(model, folder, scheme):
  export_folder(model.config, trees.flatten(model), folder, scheme=scheme)
  return folder


def read(folder, **options):
  auto = transformers.AutoModelForCausalLM
  return auto.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32, **options)


@pytest.mark.parametrize("scheme", ["hf", "origin"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_tensor_is_read_and_logits_are_equal(config, scheme, tmp_path):
  # `compare` refuses missing and unexpected tensors.
  model = made(config)
  rows = compare(model, exported(model, tmp_path, scheme), dtypes=["float32"])
  assert [row.inputs for row in rows] == ["text", "units", "both", "images"]
  assert all(row.relative <= 1e-4 and row.agreement == 1 for row in rows), rows


def test_a_model_that_differs_is_seen_in_the_table(tmp_path):
  model = made(CONFIGS["qwen2 untied"])
  folder = exported(model, tmp_path, "hf")
  model = jax.tree.map(lambda leaf: leaf, model)  # the original stays
  model.vision.merger.norm.scale[...] += 1
  far = {row.inputs: row.relative for row in compare(model, folder, dtypes=["float32"])}
  assert far["images"] > 1e-2 and max(far["text"], far["units"]) <= 1e-4


def test_torch_files_that_are_not_ours_are_not_run(tmp_path):
  model = made(CONFIGS["qwen2 untied"])
  folder = exported(model, tmp_path, "hf")
  (folder / "modeling_emova.py").write_text("raise SystemExit\n")
  (folder / "more.py").write_text("")
  with pytest.raises(UserError, match=r"modeling_emova\.py, more\.py"):
    compare(model, folder)


def test_a_folder_with_other_tensors_is_told(tmp_path):
  from safetensors.numpy import load_file, save_file

  model = made(CONFIGS["qwen2 untied"])
  folder = exported(model, tmp_path, "hf")
  tensors = load_file(folder / "model.safetensors")
  tensors["extra"] = tensors.pop("mm_projector.2.bias")
  save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
  with pytest.raises(UserError, match=r"missing keys: mm_projector\.2\.bias; unexpected keys: extra"):
    compare(model, folder)


def greedy(model, prompt, batch, *, steps):
  """Returns the likeliest ids after one prompt, one at a time, by our model with its cache."""
  cache = model.empty_cache(1, len(prompt) + steps)
  logits, cache = jax.jit(lambda model, batch, cache: model.prefill(batch, cache))(model, batch, cache)
  step = jax.jit(lambda model, tokens, positions, cache: model.step(tokens, positions, cache))
  ids = []
  for place in range(len(prompt), len(prompt) + steps):
    ids.append(int(logits[0, -1].argmax()))
    logits, cache = step(model, jnp.array([[ids[-1]]]), jnp.array([[place]]), cache)
  return ids


@pytest.mark.parametrize("scheme", ["hf", "origin"])
def test_greedy_answers_are_equal_with_padding_and_images(scheme, tmp_path):
  model = made(CONFIGS["qwen2 tied"])
  twin = read(exported(model, tmp_path, scheme)).eval()
  draw = np.random.default_rng(2)
  vision, image = model.config.vision, model.config.image_token
  shown = [
    patchify(draw.integers(0, 256, (*size, 3)).astype(np.uint8), patch=2, merge=2, min_pixels=1, max_pixels=999)
    for size in ((8, 12), (4, 8))
  ]
  prompts = [
    np.array([5, *[image] * 6, 9, *[image] * 2, 21, 7]),
    draw.integers(4, 32, 8),
  ]
  ours = []
  for number, prompt in enumerate(prompts):
    batch = {"tokens": prompt[None], "positions": np.arange(len(prompt))[None]}
    batch["segment_ids"] = np.ones((1, len(prompt)), int)
    if number == 0:
      batch["patches"] = np.concatenate([one.patches for one in shown])[None, None]
      batch["patch_positions"] = np.concatenate([one.positions for one in shown])[None, None]
      batch["patch_segment_ids"] = np.repeat([1, 2], [len(one.patches) for one in shown])[None, None]
    ours.append(greedy(model, prompt, batch, steps=12))
  padded = np.full((2, 12), 0)
  for row, prompt in enumerate(prompts):
    padded[row, 12 - len(prompt) :] = prompt
  mask = (np.arange(12) >= 12 - np.array([[len(prompt)] for prompt in prompts])).astype(int)
  with torch.no_grad():
    theirs = twin.generate(
      input_ids=torch.from_numpy(padded),
      attention_mask=torch.from_numpy(mask),
      pixel_values=torch.from_numpy(torch_patches(np.concatenate([one.patches for one in shown]), vision)),
      image_grid_thw=torch.tensor([[1, 4, 6], [1, 2, 4]]),
      max_new_tokens=12,
      do_sample=False,
    )
  assert theirs[:, 12:].tolist() == ours
  assert len({tuple(row) for row in ours}) == 2 and any(len(set(row)) > 1 for row in ours)


def test_an_image_is_counted_and_may_stand_at_the_sentinel(tmp_path):
  model = made(CONFIGS["qwen2 tied"])
  twin = read(exported(model, tmp_path, "origin")).eval()
  seen = {"pixel_values": torch.ones(8, 24), "image_grid_thw": torch.tensor([[1, 2, 4]])}
  with torch.no_grad():
    named = twin(torch.tensor([[5, 3, 3, 7]]), **seen).logits
    assert torch.equal(named, twin(torch.tensor([[5, -200, -200, 7]]), **seen).logits)
    with pytest.raises(ValueError, match=r"3 image places in input_ids, but the images have \[2\] vectors"):
      twin(torch.tensor([[5, 3, 3, 3]]), **seen)
    with pytest.raises(ValueError, match="no pixel_values"):
      twin(torch.tensor([[5, -200]]))


@pytest.mark.parametrize("size", [(40, 70), (3, 9), (9, 2), (200, 30), (4, 4)])
def test_pictures_become_the_same_patches(size, tmp_path):
  config = CONFIGS["qwen2 tied"]
  folder = exported(made(config), tmp_path, "hf")
  limits = {"min_pixels": 64, "max_pixels": 1200}
  processor = transformers.AutoImageProcessor.from_pretrained(folder, trust_remote_code=True, **limits)
  pixels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
  theirs = processor(pixels, return_tensors="np", input_data_format="channels_last")
  ours = patchify(pixels, patch=2, merge=2, **limits)
  assert theirs["image_grid_thw"].tolist() == [[1, *(ours.positions.max(0) + 1).tolist()]]
  np.testing.assert_allclose(theirs["pixel_values"], torch_patches(ours.patches, config.vision), atol=1e-5)
