import random

import numpy as np
import pytest

from omni_jax.prepare import scenes
from omni_jax.prepare.images import decode_image


def many(kind, count=60):
  source = random.Random(kind)
  return [scenes.make_scene(source, kind) for _ in range(count)]


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_words_are_known_and_answers_short(kind):
  for scene in many(kind):
    assert set(scenes.caption(scene).split()) <= scenes.words()
    for exchange in scenes.questions(scene):
      assert set(exchange.question.split()) | set(exchange.answer.split()) <= scenes.words()
      assert len(exchange.answer.split()) <= 6


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_the_picture_shows_the_colors_at_their_places(kind):
  for scene in many(kind, 20):
    pixels = decode_image(scenes.draw(scene)).astype(int)
    assert pixels.shape == (scene.height, scene.width, 3)
    assert (pixels[0, 0] == scene.background).all(), "objects stay inside the picture"
    for item in scene.objects:
      near = np.abs(pixels - scenes.COLORS[item.color]).sum(axis=-1) < 30
      rows, _columns = np.nonzero(near)
      assert len(rows) > 20
      if kind != "word":
        center = pixels[round(item.y * scene.height), round(item.x * scene.width)]
        assert np.abs(center - scenes.COLORS[item.color]).sum() < 30


def test_relations_are_true():
  for scene in many("two"):
    first, second = scene.objects
    assert first.shape != second.shape and first.color != second.color
    assert first.x < second.x if scene.place == "left of" else first.y < second.y
    answers = {exchange.question: exchange.answer for exchange in scenes.questions(scene)}
    assert answers[f"what color is the {first.shape}"] == f"the {first.shape} is {first.color}"
    assert answers[f"what is {scene.place} the {second.shape}"] == f"it is a {first.color} {first.shape}"


def test_counts_are_true_and_of_every_size():
  found = set()
  for scene in many("many"):
    found.add(len(scene.objects))
    how_many = scenes.questions(scene)[0]
    assert {1: "one", 2: "two", 3: "three", 4: "four"}[len(scene.objects)] in how_many.answer.split()
  assert found == {1, 2, 3, 4}


def test_some_combinations_are_held_out_and_drawing_is_the_same_every_time():
  shared = sum(scene.is_held_out for scene in many("two", 400)) / 400
  assert 0.04 < shared < 0.2
  scene = many("two")[0]
  assert scenes.draw(scene) == scenes.draw(scene)
