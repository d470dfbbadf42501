"""The one record of every corpus: a short conversation whose turns may carry text, sound, units and a style.

    caption                 image, user ("" or a request) -> assistant: text
    visual_question         image, user: text -> assistant: text
    annotations             image, any number of these exchanges, each independent of the others
    text                    one turn: a sentence; two turns: a question and its answer
    speech                  one user turn with text and audio: recognition or synthesis is decided by the token layer
    recording               the same without words: speech that nobody wrote down
    dialogue                user: text and audio -> assistant: text and audio
    spoken_visual_question  the same, with an image

Records are stored by tensorflow-datasets features that work without TensorFlow, which leaves out nested lists of
unknown length: the sound of the turns is laid end to end and its lengths stored beside it; so are the units of all
turns, followed by the frames of all turns.
"""

import dataclasses
from typing import Any, cast

import numpy as np

from omni_jax.core.errors import UserError
from omni_jax.core.styles import Style

SCHEMA_VERSION = "1.0.0"

ROLES = ("user", "assistant")
TASKS = (
  "text", "caption", "visual_question", "annotations", "speech", "recording", "dialogue", "spoken_visual_question",
)  # fmt: skip
IMAGE_TASKS = frozenset({"caption", "visual_question", "annotations", "spoken_visual_question"})
SPOKEN_TASKS = frozenset({"speech", "recording", "dialogue", "spoken_visual_question"})


_TEXT_FIELDS = ("role", "text", "style", "heard", "voice", "phones")
_NUMBER_FIELDS = ("units", "unit_frames")


@dataclasses.dataclass(frozen=True, eq=False)
class Turn:
  """What one side says.

  Attributes:
    role: `user` or `assistant`.
    text: the words, lower case, without punctuation when they are spoken.
    audio: FLAC, 16 kHz, one channel; empty for a written turn (and after encoding, in training splits).
    units: int32 [U] (anything array-like is converted), one id for each 40 ms of sound, repetitions kept; empty before
      encoding.
    unit_frames: int32, how many frames of 10 ms each unit lasts when repetitions are left out, to learn speaking from;
      empty before encoding and where nobody asked for it.
    style: the style the sound was made with, `gender-emotion-pitch`; empty if unknown.
    heard: the style a style encoder hears in the sound; empty before encoding.
    voice: the speaker, `engine:name`.
    phones: phone symbols of the text, separated by single spaces.
  """

  role: str
  text: str
  audio: bytes = b""
  units: Any = ()
  unit_frames: Any = ()
  style: str = ""
  heard: str = ""
  voice: str = ""
  phones: str = ""

  def __post_init__(self):
    for name in _NUMBER_FIELDS:
      object.__setattr__(self, name, np.asarray(getattr(self, name), np.int32))

  def __eq__(self, other: object) -> bool:
    if not isinstance(other, Turn):
      return NotImplemented
    same = all(getattr(self, name) == getattr(other, name) for name in (*_TEXT_FIELDS, "audio"))
    return same and all(np.array_equal(getattr(self, name), getattr(other, name)) for name in _NUMBER_FIELDS)

  def __hash__(self) -> int:
    return hash((self.role, self.text, self.audio, self.style, self.voice))


@dataclasses.dataclass(frozen=True)
class Example:
  """One record: an identity unique in its set, a task, the turns in order, and perhaps an image.

  An image is PNG, JPEG, WebP, BMP or GIF, as it came.
  """

  id: str
  task: str
  turns: tuple[Turn, ...]
  image: bytes = b""


def validate(example: Example) -> Example:
  """Returns `example` unchanged if it keeps the rules of its task.

  Raises:
    UserError: naming the record and the first rule it breaks.
  """
  where = f"record {example.id!r}"
  _require(bool(example.id), "empty id", where, "every record has an id")
  _require(example.task in TASKS, f"unknown task {example.task!r}", where, f"task is one of {', '.join(TASKS)}")
  _require(bool(example.turns), "no turns", where, "a record has at least one turn")
  if example.task in ("speech", "recording"):
    _require(len(example.turns) == 1, f"{len(example.turns)} turns", where, f"a {example.task} record has one turn")
  has_image, needs_image = bool(example.image), example.task in IMAGE_TASKS
  _require(has_image == needs_image, f"image: {has_image}", where, f"{example.task} has image: {needs_image}")
  for index, turn in enumerate(example.turns):
    _validate_turn(turn, f"{where}, turn {index}", needs_words=example.task != "recording")
  if example.task in SPOKEN_TASKS:
    spoken = all(turn.audio or len(turn.units) for turn in example.turns)
    _require(spoken, "a turn without sound", where, f"every turn of {example.task} has audio or units")
  return example


def _validate_turn(turn: Turn, where: str, *, needs_words: bool) -> None:
  _require(turn.role in ROLES, f"unknown role {turn.role!r}", where, f"role is one of {', '.join(ROLES)}")
  spoken = bool(turn.audio) or len(turn.units) > 0
  _require(bool(turn.text.strip()) or not (spoken and needs_words), "empty text", where, "what is spoken has words")
  _require(turn.audio[:4] in (b"", b"fLaC"), f"audio starts {turn.audio[:4]!r}", where, "audio is FLAC")
  for name in (turn.style, turn.heard):
    if name:
      Style.parse(name)


def _require(condition: bool, what: str, where: str, rule: str) -> None:
  if not condition:
    raise UserError(what, where=where, rule=rule, remedy="repair the record, or make the corpus again")


def features() -> Any:
  """Returns the tensorflow-datasets features of a record; made and read without TensorFlow."""
  import tensorflow_datasets as tfds

  return tfds.features.FeaturesDict(
    {
      "id": tfds.features.Text(),
      "task": tfds.features.Text(),
      "image": tfds.features.Scalar(dtype=np.object_),
      "turns": tfds.features.Sequence({name: tfds.features.Text() for name in _TEXT_FIELDS}),
      "audio": tfds.features.Scalar(dtype=np.object_),
      "audio_sizes": tfds.features.Tensor(shape=(None,), dtype=np.int64),
      "units": tfds.features.Tensor(shape=(None,), dtype=np.int32),
      "unit_counts": tfds.features.Tensor(shape=(None,), dtype=np.int64),
    }
  )


def to_record(example: Example) -> dict[str, Any]:
  """Returns the fields that `features` encodes: turns as lists, sound end to end, units and then their frames too."""
  turns = example.turns
  numbers = [getattr(turn, name) for name in _NUMBER_FIELDS for turn in turns]
  return {
    "id": example.id,
    "task": example.task,
    "image": example.image,
    "turns": {name: [getattr(turn, name) for turn in turns] for name in _TEXT_FIELDS},
    "audio": b"".join(turn.audio for turn in turns),
    "audio_sizes": np.array([len(turn.audio) for turn in turns], np.int64),
    "units": np.concatenate(numbers),
    "unit_counts": np.array([len(row) for row in numbers], np.int64),
  }


def to_bytes(example: Example) -> bytes:
  """Returns the `tf.train.Example` that `features` makes of `to_record`, ten times as fast as they do.

  Fields are a map of the protobuf, whose order is another in each process unless it is asked for.
  """
  from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

  examples, fields = cast(Any, tf_example_pb2), cast(Any, tf_feature_pb2)  # generated code, without types
  record = to_record(example)
  lists = {f"turns/{name}": values for name, values in record.pop("turns").items()}
  made = {}
  for name, value in (record | lists).items():
    if isinstance(value, np.ndarray):
      made[name] = fields.Feature(int64_list=fields.Int64List(value=value.tolist()))
    else:
      texts = value if isinstance(value, list) else [value]
      raw = [text.encode() if isinstance(text, str) else text for text in texts]
      made[name] = fields.Feature(bytes_list=fields.BytesList(value=raw))
  whole = examples.Example(features=fields.Features(feature=made))
  return whole.SerializeToString(deterministic=True)


def from_bytes(data: bytes) -> Example:
  """Returns the example of what `to_bytes` or `features` made, three times as fast as they decode it.

  Raises:
    KeyError, IndexError, ValueError: it is no whole record; protobuf raises an error of its own for other bytes.
  """
  from tensorflow_datasets.proto import tf_example_pb2

  made = cast(Any, tf_example_pb2).Example.FromString(data).features.feature

  def raw(name: str) -> Any:
    if name not in made:  # a map of a protobuf would answer with an empty list
      raise KeyError(name)
    return made[name].bytes_list.value

  def numbers(name: str, dtype: type) -> np.ndarray:
    if name not in made:
      raise KeyError(name)
    return np.array(made[name].int64_list.value, dtype)

  record: dict[str, Any] = {name: raw(name)[0] for name in ("id", "task", "image", "audio")}
  record["turns"] = {name: raw(f"turns/{name}") for name in _TEXT_FIELDS}
  record |= {"units": numbers("units", np.int32)}
  record |= {name: numbers(name, np.int64) for name in ("audio_sizes", "unit_counts")}
  sizes = len(record["audio"]), len(record["units"])
  if sizes != (record["audio_sizes"].sum(), record["unit_counts"].sum()):
    raise ValueError(f"{sizes[0]} bytes of sound and {sizes[1]} units, other numbers are stated")
  return from_record(record)


def from_record(record: dict[str, Any]) -> Example:
  """Returns the example that `to_record` took apart."""
  columns = {name: [_text(value) for value in record["turns"][name]] for name in _TEXT_FIELDS}
  count = len(columns["role"])
  audio = _pieces(record["audio"], record["audio_sizes"])
  numbers = _pieces(record["units"], record["unit_counts"])
  units, frames = numbers[:count], numbers[count:] or [()] * count  # records made before frames were kept have none
  turns = []
  for index in range(count):
    fields = {name: values[index] for name, values in columns.items()}
    turns.append(Turn(**fields, audio=bytes(audio[index]), units=units[index], unit_frames=frames[index]))
  return Example(_text(record["id"]), _text(record["task"]), tuple(turns), bytes(record["image"]))


def _pieces(whole: Any, sizes: Any) -> list[Any]:
  """Returns what was laid end to end, cut again."""
  ends = np.cumsum(sizes).tolist()
  return [whole[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _text(value: Any) -> str:
  return value.decode() if isinstance(value, bytes) else str(value)
