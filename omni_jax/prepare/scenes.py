"""Drawn pictures with exact captions and questions: shapes, colors, counts, places and rendered words.

Four kinds of scene, from easy to composed: one object somewhere, two objects side by side or one above the other,
several equal objects, and a written word. Whole combinations are held out by a hash of what the scene shows.
"""

import dataclasses
import functools
import hashlib
import io
import math
import random
from typing import Any

import numpy as np

from omni_jax.prepare.sentences import Exchange

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
COLORS = {
  "red": (214, 40, 40),
  "green": (40, 150, 60),
  "blue": (40, 80, 210),
  "yellow": (240, 215, 30),
  "black": (25, 25, 25),
  "orange": (245, 130, 30),
}
WORDS = ("cat", "dog", "sun", "cup", "bus", "hat", "map", "box", "key", "pen", "bed", "car")
PLACES = {
  "on the left": (0.27, 0.5),
  "on the right": (0.73, 0.5),
  "at the top": (0.5, 0.29),
  "at the bottom": (0.5, 0.71),
  "in the middle": (0.5, 0.5),
}
KINDS = ("one", "two", "many", "word")
HELD_OUT_SHARE = 0.1

_COUNT_NAMES = {1: "one", 2: "two", 3: "three", 4: "four"}
_COUNT_PLACES = {
  1: ((0.5, 0.5),),
  2: ((0.27, 0.5), (0.73, 0.5)),
  3: ((0.27, 0.72), (0.73, 0.72), (0.5, 0.27)),
  4: ((0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73)),
}
# Sides of the canvas in pixels, height x width: several sizes and aspect ratios.
_SIZES = ((64, 64), (80, 80), (96, 96), (64, 96), (96, 64), (64, 80), (80, 112), (112, 80), (72, 104))
_BACKGROUNDS = ((255, 255, 255), (240, 240, 232), (226, 236, 244), (244, 230, 226))
_SHADE = 0.35  # how much of a lamp's light is lost on the far side
_STROKE = 0.03  # by which letters are thickened on each side, as a share of their size
_OVERSAMPLING = 3  # drawn three times as large, then averaged: smooth edges


@dataclasses.dataclass(frozen=True)
class Object:
  """A colored shape (or a word) around the point (x, y), both as shares of the canvas."""

  shape: str
  color: str
  x: float
  y: float
  size: float


@dataclasses.dataclass(frozen=True)
class Scene:
  """What a picture shows: its kind (KINDS), its objects in reading order, the place in words (kinds one and two)."""

  kind: str
  objects: tuple[Object, ...]
  place: str
  height: int
  width: int
  background: tuple[int, int, int]

  @property
  def is_held_out(self) -> bool:
    """Whether this combination of shapes, colors and places belongs to the test split; of a word, also of the wall.

    Were words held out by color alone, one in ten would never be seen in a color, and its color would tell that it is
    another word.
    """
    place = str(self.background) if self.kind == "word" else self.place
    shown = "|".join([self.kind, place, *(f"{item.color} {item.shape}" for item in self.objects)])
    return int.from_bytes(hashlib.sha256(shown.encode()).digest()[:4], "little") < HELD_OUT_SHARE * 2**32


def make_scene(random_source: random.Random, kind: str) -> Scene:
  """Returns a scene of one of KINDS."""
  height, width = random_source.choice(_SIZES)
  background = random_source.choice(_BACKGROUNDS)
  objects, place = _MAKERS[kind](random_source)
  return Scene(kind, objects, place, height, width, background)


def caption(scene: Scene) -> str:
  """Returns the sentence that says everything the scene shows."""
  first = scene.objects[0]
  if scene.kind == "word":
    return f"the word {first.shape} in {first.color}"
  if scene.kind == "many":
    plural = "" if len(scene.objects) == 1 else _plural_ending(first.shape)
    return f"{_COUNT_NAMES[len(scene.objects)]} {first.color} {first.shape}{plural}"
  if scene.kind == "two":
    second = scene.objects[1]
    return f"a {first.color} {first.shape} {scene.place} a {second.color} {second.shape}"
  return f"a {first.color} {first.shape} {scene.place}"


def questions(scene: Scene) -> tuple[Exchange, ...]:
  """Returns every question the scene can answer, with its answer."""
  first = scene.objects[0]
  if scene.kind == "word":
    return (
      Exchange("what word is written", f"the word is {first.shape}", "word"),
      Exchange("what color is the word", f"the word is {first.color}", "color"),
    )
  if scene.kind == "many":
    number = len(scene.objects)
    plural = first.shape + _plural_ending(first.shape)
    verb = "is" if number == 1 else "are"
    counted = first.shape if number == 1 else plural
    asks_color = f"what color {verb} the {counted}"
    return (
      Exchange(
        f"how many {plural} are there",
        f"there {verb} {_COUNT_NAMES[number]} {counted}",
        "count",
      ),
      Exchange(asks_color, f"the {counted} {verb} {first.color}", "color"),
    )
  asked = [
    Exchange(f"what color is the {item.shape}", f"the {item.shape} is {item.color}", "color") for item in scene.objects
  ]
  asked += [Exchange(f"what shape is {item.color}", f"it is a {item.shape}", "shape") for item in scene.objects]
  if scene.kind == "one":
    return (*asked, Exchange(f"where is the {first.shape}", f"it is {scene.place}", "place"))
  second = scene.objects[1]
  reverse = {"left of": "right of", "above": "below"}[scene.place]
  return (
    *asked,
    Exchange(f"what is {scene.place} the {second.shape}", f"it is a {first.color} {first.shape}", "relation"),
    Exchange(f"what is {reverse} the {first.shape}", f"it is a {second.color} {second.shape}", "relation"),
  )


def draw(scene: Scene) -> bytes:
  """Returns the picture of the scene as PNG bytes."""
  from PIL import Image, ImageDraw

  scale = _OVERSAMPLING
  image = Image.fromarray(_lit(scene.background, height=scene.height * scale, width=scene.width * scale))
  pen = ImageDraw.Draw(image)
  for item in scene.objects:
    center = (item.x * scene.width * scale, item.y * scene.height * scale)
    radius = item.size * min(scene.width, scene.height) * scale
    if scene.kind == "word":
      bold = round(radius * _STROKE)
      pen.text(center, item.shape, COLORS[item.color], font=_font(round(radius)), anchor="mm", stroke_width=bold)
    elif item.shape == "circle":
      pen.ellipse([center[0] - radius, center[1] - radius, center[0] + radius, center[1] + radius], COLORS[item.color])
    else:
      corners = [(center[0] + radius * x, center[1] + radius * y) for x, y in _outline(item.shape)]
      pen.polygon(corners, COLORS[item.color])
  buffer = io.BytesIO()
  image.reduce(scale).save(buffer, "PNG", compress_level=1)
  return buffer.getvalue()


@functools.cache
def _lit(color: tuple[int, int, int], *, height: int, width: int) -> np.ndarray:
  """Returns a wall uint8 [H, W, 3] that a red lamp lights from the left and a blue one from above.

  So every patch shows where it is, as light and perspective do in photographs; a tower whose positions are only
  relative (rotary) sees "on the left" nowhere else but at the margin of a flat wall.
  """
  down, right = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
  light = np.stack([1 - _SHADE * right, 1 - _SHADE / 2 * (right + down), 1 - _SHADE * down], axis=-1)
  return np.round(np.asarray(color) * light).astype(np.uint8)


def words() -> frozenset[str]:
  """Returns every word that captions, questions and answers can hold."""
  texts = [
    *SHAPES,
    *(shape + _plural_ending(shape) for shape in SHAPES),
    *COLORS,
    *WORDS,
    *PLACES,
    *_COUNT_NAMES.values(),
  ]
  texts += ["a an the word in left right of above below what color is are shape where how many there they it written"]
  return frozenset(word for text in texts for word in text.split())


def _one(random_source: random.Random) -> tuple[tuple[Object, ...], str]:
  place = random_source.choice(tuple(PLACES))
  x, y = PLACES[place]
  return (_object(random_source, x, y, 0.21, 0.26),), place


def _two(random_source: random.Random) -> tuple[tuple[Object, ...], str]:
  place = random_source.choice(("left of", "above"))
  shapes, colors = random_source.sample(SHAPES, 2), random_source.sample(tuple(COLORS), 2)
  points = ((0.27, 0.5), (0.73, 0.5)) if place == "left of" else ((0.5, 0.28), (0.5, 0.72))
  objects = tuple(
    dataclasses.replace(_object(random_source, *points[index], 0.18, 0.21), shape=shapes[index], color=colors[index])
    for index in range(2)
  )
  return objects, place


def _many(random_source: random.Random) -> tuple[tuple[Object, ...], str]:
  points = _COUNT_PLACES[random_source.randint(1, 4)]
  like = _object(random_source, 0.5, 0.5, 0.15, 0.19)
  jitter = 0.03
  objects = tuple(
    dataclasses.replace(
      like, x=x + random_source.uniform(-jitter, jitter), y=y + random_source.uniform(-jitter, jitter)
    )
    for x, y in points
  )
  return objects, ""


def _word(random_source: random.Random) -> tuple[tuple[Object, ...], str]:
  item = _object(random_source, 0.5, 0.5, 0.48, 0.54)
  return (dataclasses.replace(item, shape=random_source.choice(WORDS)),), ""


_MAKERS = {"one": _one, "two": _two, "many": _many, "word": _word}


def _object(random_source: random.Random, x: float, y: float, smallest: float, largest: float) -> Object:
  jitter = 0.03
  return Object(
    shape=random_source.choice(SHAPES),
    color=random_source.choice(tuple(COLORS)),
    x=x + random_source.uniform(-jitter, jitter),
    y=y + random_source.uniform(-jitter, jitter),
    size=random_source.uniform(smallest, largest),
  )


def _plural_ending(shape: str) -> str:
  return "es" if shape == "cross" else "s"


@functools.cache
def _outline(shape: str) -> tuple[tuple[float, float], ...]:
  """Returns the corners of a shape of radius one around the origin, y downwards."""
  if shape == "square":
    return ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85))
  if shape == "triangle":
    return ((0.0, -1.0), (1.0, 0.85), (-1.0, 0.85))
  if shape == "diamond":
    return ((0.0, -1.1), (0.7, 0.0), (0.0, 1.1), (-0.7, 0.0))
  if shape == "cross":
    a, b = 0.3, 1.0
    return ((-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a))
  assert shape == "star", f"no outline for {shape}"
  radii = (1.1, 0.45)
  return tuple(
    (radii[index % 2] * math.sin(index * math.pi / 5), -radii[index % 2] * math.cos(index * math.pi / 5))
    for index in range(10)
  )


@functools.cache
def _font(size: int) -> Any:
  from PIL import ImageFont

  return ImageFont.load_default(size)
