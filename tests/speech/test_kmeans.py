import dataclasses
import pickle

import jax.numpy as jnp
import numpy as np
import pytest

from omni_jax.core.errors import UserError
from omni_jax.speech.kmeans import (
  KMeans,
  KMeansConfig,
  Seeding,
  distortion,
  fit,
  nearest,
  read_centres,
  read_state,
  start,
  update,
  write_centres,
)

CONFIG = KMeansConfig(num_classes=6, steps=30, seed_frames=120, rescue_every=4, seed=3)
MIDDLES = 10 * np.random.default_rng(1).normal(size=(6, 4))


def batch_of(step):
  generator = np.random.default_rng((7, step))
  frames = MIDDLES[generator.integers(0, 6, 60)] + 0.1 * generator.normal(size=(60, 4))
  return frames.astype(np.float32)


def all_frames(batches=20):
  return np.concatenate([batch_of(step) for step in range(100, 100 + batches)])


def test_the_nearest_centre():
  generator = np.random.default_rng(0)
  frames, centres = (generator.normal(size=shape).astype(np.float32) for shape in ((2, 50, 7), (9, 7)))
  expected = np.square(frames[:, :, None] - centres).sum(-1).argmin(-1)
  found = nearest(jnp.asarray(frames), jnp.asarray(centres))
  np.testing.assert_array_equal(found, expected)
  assert found.dtype == jnp.int32
  apart = np.square(frames[0][:, None] - centres).sum(-1).min(-1).mean()
  assert float(distortion(jnp.asarray(frames[0]), jnp.asarray(centres))) == pytest.approx(apart, rel=1e-5)


def test_centres_come_to_the_middles_of_the_clusters():
  state = fit(batch_of, CONFIG)
  apart = np.linalg.norm(MIDDLES[:, None] - np.asarray(state.centres), axis=-1)
  assert apart.min(0).max() < 0.2 and apart.min(1).max() < 0.2  # each centre in a cluster, each cluster has one
  assert float(distortion(jnp.asarray(all_frames()), state.centres)) < 0.1


def test_random_seeds_are_frames_and_get_better():
  config = dataclasses.replace(CONFIG, seeding=Seeding.RANDOM)
  first, last = (fit(batch_of, dataclasses.replace(config, steps=steps)).centres for steps in (0, 30))
  drawn_from = np.concatenate([batch_of(0), batch_of(1)])
  assert all((drawn_from == centre).all(-1).any() for centre in np.asarray(first))
  assert len(np.unique(np.asarray(first), axis=0)) == 6
  frames = jnp.asarray(all_frames())
  assert float(distortion(frames, last)) < 0.9 * float(distortion(frames, first))


def test_a_centre_is_the_mean_of_all_its_frames():
  state = KMeans(jnp.asarray(MIDDLES, jnp.float32), jnp.zeros(6), 0)
  for step in range(5):
    state = update(state, jnp.asarray(batch_of(step)), dataclasses.replace(CONFIG, rescue_share=0.0))
  frames = np.concatenate([batch_of(step) for step in range(5)])
  labels = np.square(frames[:, None] - MIDDLES).sum(-1).argmin(-1)  # the clusters are far apart: nothing changes hands
  for place in range(6):
    np.testing.assert_allclose(state.centres[place], frames[labels == place].mean(0), rtol=1e-4, atol=1e-4)
  np.testing.assert_array_equal(state.counts, np.bincount(labels, minlength=6))


def test_a_centre_that_nothing_is_near_is_moved():
  config = dataclasses.replace(CONFIG, rescue_every=1)
  state = start(all_frames(2), config)
  state = state._replace(centres=state.centres.at[2].set(1e4))
  kept = update(state, jnp.asarray(batch_of(0)), dataclasses.replace(config, rescue_share=0.0))
  moved = update(state, jnp.asarray(batch_of(0)), config)
  assert float(kept.centres[2, 0]) == 1e4
  assert np.abs(batch_of(0) - np.asarray(moved.centres[2])).sum(-1).min() < 1e-5  # it stands at a frame


def test_going_on_after_a_stop_gives_the_same_bits(tmp_path):
  whole = fit(batch_of, CONFIG)
  path = tmp_path / "state.npz"

  def stops(step):
    if step == 17:
      raise KeyboardInterrupt
    return batch_of(step)

  with pytest.raises(KeyboardInterrupt):
    fit(stops, CONFIG, path=path, save_every=5)
  assert read_state(path, CONFIG).step == 15
  again = fit(batch_of, CONFIG, path=path)
  np.testing.assert_array_equal(again.centres, whole.centres)
  np.testing.assert_array_equal(fit(stops, CONFIG, path=path).centres, whole.centres)  # finished: no batch is read
  with pytest.raises(UserError, match="another run"):
    fit(batch_of, dataclasses.replace(CONFIG, seed=4), path=path)


@pytest.mark.parametrize("name", ["centres.npy", "centres.npz"])
def test_centres_come_back_from_files(tmp_path, name):
  centres = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
  write_centres(tmp_path / name, centres)
  np.testing.assert_array_equal(read_centres(tmp_path / name), centres)


def test_an_archive_of_one_array_is_read(tmp_path):
  np.savez(tmp_path / "one.npz", cluster_centers_=np.ones((2, 3)))
  assert read_centres(tmp_path / "one.npz").dtype == np.float32


class Harmful:
  def __reduce__(self):
    return (pytest.fail, ("a pickle was loaded",))


def test_a_pickle_is_never_loaded(tmp_path):
  (tmp_path / "km1000.bin").write_bytes(pickle.dumps(Harmful()))
  np.save(tmp_path / "objects.npy", np.array([Harmful()], object), allow_pickle=True)
  for name in ("km1000.bin", "objects.npy"):
    with pytest.raises(UserError, match="joblib"):
      read_centres(tmp_path / name)


@pytest.mark.parametrize(
  "array", [np.ones(3), np.ones((2, 2), int), np.array([[np.nan, 1.0]])], ids=["one axis", "integers", "not finite"]
)
def test_other_arrays_are_told(tmp_path, array):
  np.save(tmp_path / "centres.npy", array)
  with pytest.raises(UserError, match="no centres can be read"):
    read_centres(tmp_path / "centres.npy")


def test_a_file_that_is_missing_or_cut_off_is_told(tmp_path):
  with pytest.raises(UserError, match="no such file"):
    read_centres(tmp_path / "centres.npy")
  write_centres(tmp_path / "centres.npz", np.ones((50, 50)))
  whole = (tmp_path / "centres.npz").read_bytes()
  (tmp_path / "centres.npz").write_bytes(whole[: len(whole) // 2])
  with pytest.raises(UserError, match="no centres can be read"):
    read_centres(tmp_path / "centres.npz")


def test_frames_that_do_not_do_are_told():
  with pytest.raises(UserError, match="60 frames for 100 classes"):
    fit(lambda step: batch_of(0) if step == 0 else batch_of(0)[:0], dataclasses.replace(CONFIG, num_classes=100))
  with pytest.raises(UserError, match="not finite"):
    fit(lambda step: batch_of(step) * (np.nan if step == 3 else 1), CONFIG)
  with pytest.raises(UserError, match=r"\[N, 4\]"):
    fit(lambda step: batch_of(step)[:, : 4 if step < 3 else 2], CONFIG)


@pytest.mark.parametrize("changes", [{"num_classes": 0}, {"rescue_share": 1.0}, {"seed_frames": 5}])
def test_settings_out_of_range_are_told(changes):
  with pytest.raises(UserError, match="k-means"):
    dataclasses.replace(CONFIG, **changes)
