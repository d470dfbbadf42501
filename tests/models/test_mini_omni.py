import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.convert.mini_omni import export_mini_omni
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.models.mini_omni import MINI_OMNI_0_5B, mini_omni
from omni_jax.models.sizes import QWEN2_0_5B
from omni_jax.speech.encoder_block import EncoderConfig
from omni_jax.speech.whisper import WhisperConfig
from omni_jax.tokens.mini_omni import MiniOmniLayout, Task
from tests.models.drawn import drawn
from tests.models.twins import decoder_config

# A vocabulary of 20 pieces and 12 codes, 64 entries behind each as in the release.
LAYOUT = MiniOmniLayout(num_pieces=20, text_size=84, num_codes=12, codebook_size=76)
WHISPER = WhisperConfig(
  num_mels=8,
  num_positions=12,
  encoder=EncoderConfig(
    width=12, depth=1, num_heads=2, mlp_dim=16, norm_eps=1e-5, norm_first=True, key_bias=False
  ),
)  # fmt: skip


def tiny(base=None, **changes):
  return mini_omni(base or decoder_config(), layout=LAYOUT, hearing=WHISPER, inputs=12, **changes)


def sounds(*seconds, seed=0):
  """Returns what a batch holds of recordings of these lengths."""
  draw = np.random.default_rng(seed)
  waveforms = [0.5 * draw.standard_normal(round(16000 * length)).clip(-1, 1) for length in seconds]
  recordings, frames = WHISPER.layout.windows(waveforms)
  return {"recordings": recordings, "recording_frames": frames}


def batch_of(prompt, **heard):
  length = prompt.shape[1]
  batch = {
    "tokens": prompt.T[None],
    "positions": np.arange(length, dtype=np.int32)[None],
    "segment_ids": np.ones((1, length), np.int32),
  }
  return {name: jnp.asarray(value) for name, value in (batch | {k: v[None] for k, v in heard.items()}).items()}


RUN = jax.jit(lambda model, batch: model(batch))
HEAR = jax.jit(lambda hearing, waveform: hearing.features(waveform))


def vectors_of(model, heard):
  """Returns the encoder's vectors of recordings, with those of the silence behind them."""
  return np.array(HEAR(model.hearing, heard["recordings"].astype(np.float32) / 32767))


def twin_of(model):
  torch = pytest.importorskip("torch")
  from omni_jax.convert.torch_files import in_torch
  from tests.models.torch_mini_omni import TorchMiniOmni

  twin = TorchMiniOmni(model.config)
  twin.load_state_dict(in_torch(export_mini_omni(model)))
  return twin.eval(), torch


def question(task, seconds=0.1):
  """Returns the prompt of a task, what it hears, and the vectors of that."""
  if not task.hears:
    return LAYOUT.prompt(task, text=[3, 1, 4, 1]), {}, None
  heard = sounds(seconds)
  return LAYOUT.prompt(task, num_frames=int(heard["recording_frames"][0])), heard, heard["recordings"]


# As released; and with the paper's speaker on a decoder of Llama's kind, two tables and no offsets.
@pytest.mark.parametrize(("speaker", "changes"), [(0, {}), (2, {"tied": False, "qkv_bias": False})])
def test_logits_equal_the_original_for_every_task(speaker, changes):
  model = drawn(tiny(decoder_config(**changes), speaker=speaker))
  twin, torch = twin_of(model)
  features = vectors_of(model, sounds(0.1))
  for task in Task:
    prompt, heard, recordings = question(task)
    codes, text = RUN(model, batch_of(prompt, **heard))
    frames = heard.get("recording_frames", [0])[0]
    given = None if recordings is None else torch.from_numpy(features[:, :frames])
    with torch.no_grad():
      their_codes, their_text = twin(torch.from_numpy(prompt)[None], given)
    np.testing.assert_allclose(text[:, :, 0], their_text, atol=1e-4, err_msg=task.name)
    np.testing.assert_allclose(np.moveaxis(codes, 2, 1), their_codes, atol=1e-4, err_msg=task.name)


def test_packed_questions_do_not_hear_each_other():
  model = drawn(tiny(speaker=1))
  prompts = [LAYOUT.prompt(Task.A1A2, num_frames=frames) for frames in (6, 3)]
  heard = sounds(0.1, 0.05)
  assert heard["recording_frames"].tolist() == [6, 3]
  packed = batch_of(np.concatenate(prompts, axis=1), **heard)
  lengths = [prompt.shape[1] for prompt in prompts]
  packed["segment_ids"] = jnp.asarray(np.repeat([1, 2], lengths))[None]
  packed["positions"] = jnp.asarray(np.concatenate([np.arange(length) for length in lengths]))[None]
  start, whole = 0, RUN(model, packed)
  for number, prompt in enumerate(prompts):
    own = {name: value[number : number + 1] for name, value in heard.items()}
    for ours, seen in zip(RUN(model, batch_of(prompt, **own)), whole, strict=True):
      np.testing.assert_allclose(seen[:, start : start + prompt.shape[1]], ours, atol=2e-5)
    start += prompt.shape[1]


@pytest.mark.parametrize("speaker", [0, 1])
def test_steps_with_a_cache_equal_whole_rows(speaker):
  model = drawn(tiny(speaker=speaker))
  grid = LAYOUT.sample(Task.A1A2, num_frames=6, answer=[1, 2, 3], codes=np.arange(14).reshape(2, 7) % 12)
  batch = batch_of(grid.tokens, **sounds(0.1))
  whole = RUN(model, batch)
  asked = 9
  prompt = {name: value[:, :asked] if value.shape[1] > 1 else value for name, value in batch.items()}
  read = jax.jit(lambda model, states: [model.group_logits(part, group) for group, part in enumerate(states)])
  for form in (model, model.unrolled()):  # the layers in a stack, and taken apart
    states, cache = jax.jit(type(model).prefill)(form, prompt, model.empty_cache(1, 24))
    step = jax.jit(type(model).step)
    for column in range(asked, grid.tokens.shape[1]):
      for ours, theirs in zip(read(form, states), whole, strict=True):
        np.testing.assert_allclose(ours[:, 0], theirs[:, column - 1], atol=2e-5)
      now = (batch[name][:, column : column + 1] for name in ("tokens", "positions"))
      states, cache = step(form, *now, cache)


def test_the_release_has_its_parameters_and_its_cache():
  abstract = jax.eval_shape(lambda: MINI_OMNI_0_5B.make(key=jax.random.key(0)))
  assert trees.count(abstract) == 532_010_880
  untied = dataclasses.replace(MINI_OMNI_0_5B, decoder=dataclasses.replace(MINI_OMNI_0_5B.decoder, tied=False))
  assert trees.count(jax.eval_shape(lambda: untied.make(key=jax.random.key(0)))) == 694_294_400
  spoken = jax.eval_shape(lambda: mini_omni(QWEN2_0_5B, speaker=6).make(key=jax.random.key(0)))
  assert trees.count(spoken) - trees.count(abstract) == 115_566_720
  assert MINI_OMNI_0_5B.layout.text_size + MINI_OMNI_0_5B.layout.audio_size == 181_120
  cache = jax.eval_shape(lambda model: model.empty_cache(1, 2048), abstract)
  stored = (cache.decoder.keys, cache.decoder.values)
  assert [leaf.shape for leaf in stored] == [(24, 1, 2, 2048, 64)] * 2  # 50 MB in float32, 352 MB in the original


def test_recordings_need_an_encoder_and_sizes_must_fit():
  deaf = drawn(dataclasses.replace(tiny(), hearing=None))
  with pytest.raises(UserError, match="no encoder of speech"):
    deaf.embed(batch_of(LAYOUT.prompt(Task.A1T1, num_frames=6), **sounds(0.1)))
  with pytest.raises(UserError, match="tables of"):
    dataclasses.replace(tiny(), layout=dataclasses.replace(LAYOUT, text_size=90))
