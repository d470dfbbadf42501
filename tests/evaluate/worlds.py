"""A tiny corpus of buzzes and a fake assistant that knows it by heart, to test the wiring of evaluation."""

import dataclasses
import json

import numpy as np

from omni_jax.core.styles import ALL_STYLES, Style
from omni_jax.generate.exchange import Ability, Answer, Question
from omni_jax.prepare.audio import decode_audio, encode_flac
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.sentences import EMOTION_WORDS, reply_style
from omni_jax.prepare.writer import write_split

PNG = bytes.fromhex(
  "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc000000301010018dd8db0"
  "0000000049454e44ae426082"
)
PHONES = tuple("abcdefghijklmnopqrstuvwxyz")
_COLOR = ("color/one", "what color is the circle", "red")
_COUNT = ("count/many", "how many stars are there", "two")
_MEAN_HZ = {"low": 120.0, "normal": 150.0, "high": 188.0}
_SECONDS = {"neutral": 1.0, "happy": 1.0, "sad": 1.35, "angry": 0.75}
_RANGE = {"neutral": 2.0, "happy": 5.0, "sad": 1.0, "angry": 2.0}


def buzz(style: Style, seed: int) -> np.ndarray:
  """A voice of the asked pitch, rate and range; the seed makes every recording a little different."""
  draw = np.random.default_rng(seed)
  time = np.arange(int(16000 * _SECONDS[style.emotion])) / 16000
  semitones = _RANGE[style.emotion] * np.sin(2 * np.pi * 2 * time)
  f0 = _MEAN_HZ[style.pitch] * draw.uniform(0.98, 1.02) * 2 ** (semitones / 12)
  phase = 2 * np.pi * np.cumsum(f0) / 16000
  return (0.2 * sum(np.sin(k * phase) / k for k in range(1, 6))).astype(np.float32)


def spoken(role: str, text: str, style: Style, *, seed: int, engine: str = "flite") -> Turn:
  voice = f"{engine}:{'slt' if style.gender == 'female' else 'awb'}"
  phones = " ".join((text.replace(" ", "") * 12)[:12])
  return Turn(role, text, audio=encode_flac(buzz(style, seed)), style=str(style), voice=voice, phones=phones)


def make_world(workdir, *, engine: str = "flite") -> None:
  """Writes corpus and stage cards below `workdir`."""
  texts = ("red sun", "blue sea", "old cat", "new hat")
  speech = [
    Example(f"speech-{i}", "speech", (spoken("user", texts[i % 4], style, seed=i, engine=engine),))
    for i, style in enumerate(ALL_STYLES)
  ]
  dialogue = [_dialogue(i, style, engine) for i, style in enumerate(ALL_STYLES)]
  pairs = [_pair(i, emotion, engine) for i in range(3) for emotion in EMOTION_WORDS]
  questions = [
    Example(f"{kind}/{i}", "visual_question", (Turn("user", text), Turn("assistant", answer)), image=PNG)
    for i, (kind, text, answer) in enumerate([_COLOR, _COUNT] * 3)
  ]
  asked = [
    Example(f"{example.id}-spoken", "spoken_visual_question", _asked(example, i, engine), image=PNG)
    for i, example in enumerate(questions)
  ]
  corpus = workdir / "corpus"
  for name, splits in {
    "speech": {"train": speech, "test": speech, "test_voice": speech[:6]},
    "dialogue": {"train": dialogue, "test": dialogue[:6], "pairs": pairs},
    "images": {"train": questions, "test": questions},
    "spoken_images": {"train": asked, "test": asked},
  }.items():
    for split, examples in splits.items():
      write_split(corpus / name, split, examples)
  (corpus / "phones.json").write_text(json.dumps(PHONES))
  for stage in ("tokenizer", "style", "vocoder", "tune", "tune_without_triples"):
    (workdir / "stages" / stage / "checkpoints" / "7").mkdir(parents=True)
    (workdir / "stages" / stage / "run.json").write_text(
      json.dumps({"format": 1, "fingerprint": stage, "run": {}, "starts": []})
    )


def _asked(example: Example, index: int, engine: str) -> tuple[Turn, Turn]:
  question, answer = example.turns
  style = ALL_STYLES[index]
  return (
    spoken("user", question.text, style, seed=200 + index, engine=engine),
    spoken("assistant", answer.text, reply_style(style), seed=300 + index, engine=engine),
  )


def _dialogue(index: int, style: Style, engine: str) -> Example:
  user = spoken("user", f"what day is it {index}", style, seed=400 + index, engine=engine)
  reply = spoken("assistant", "it is monday today", reply_style(style), seed=500 + index, engine=engine)
  return Example(f"fact/{index}", "dialogue", (user, reply))


def _pair(index: int, emotion: str, engine: str) -> Example:
  style = Style("female", emotion, "normal")
  user = spoken("user", f"i met my friend {index}", style, seed=600 + 10 * index, engine=engine)
  said = f"you sound {EMOTION_WORDS[emotion]} about your friend"
  reply = spoken("assistant", said, reply_style(style), seed=700 + 10 * index + len(emotion), engine=engine)
  return Example(f"remark/{index}-{emotion}", "dialogue", (user, reply))


@dataclasses.dataclass
class Spoken:
  waveform: np.ndarray


@dataclasses.dataclass
class Event:
  samples: np.ndarray | None = None
  timings: dict = dataclasses.field(default_factory=dict)


class FakeAssistant:
  """Answers every recording of the world as its record says; an unheard style or a missing image makes it guess."""

  def __init__(self, workdir, *, stage: str):
    self.stage = stage
    self.tokenizer = self.style_encoder = self
    self.sample_rate = 16000
    self.abilities = frozenset(Ability)
    self._examples = {}
    from omni_jax.evaluate.run import TASKS  # noqa: F401  (the package imports as a whole)
    from omni_jax.prepare.reader import open_set

    for name, splits in {"speech": ("test",), "dialogue": ("test", "pairs"), "spoken_images": ("test",)}.items():
      for split in splits:
        source = open_set(workdir / "corpus" / name, split)
        for example in (source[index] for index in range(len(source))):
          for turn in example.turns:
            self._examples[decode_audio(turn.audio).tobytes()] = (turn, example)
    source = open_set(workdir / "corpus" / "images", "test")
    self._written = {source[i].turns[0].text: source[i].turns[1].text for i in range(len(source))}

  def phones_batch(self, waveforms):
    return [[PHONES.index(phone) for phone in self._turn(w).phones.split()] for w in waveforms]

  def encode_batch(self, waveforms):
    return [np.arange(5, dtype=np.int32).repeat(2) for _ in waveforms]

  def hear_batch(self, waveforms):
    return [Style.parse(self._turn(w).style) if w.tobytes() in self._examples else ALL_STYLES[0] for w in waveforms]

  def resynthesise(self, recordings):
    return [buzz(style, 1) for _, style in recordings]

  def recognise(self, waveforms):
    return [self._turn(w).text for w in waveforms]

  def synthesise(self, pairs, *, readings):
    return [Spoken(buzz(style, 2)) for _, style in pairs]

  def answer(self, questions):
    return [self._answer(question) for question in questions]

  def stream(self, question: Question):
    yield Event(samples=np.zeros(1600, np.float32))
    yield Event(samples=np.zeros(1600, np.float32))
    yield Event(timings={"encode": 0.01, "decode": 0.02})

  def _turn(self, waveform):
    return self._examples[waveform.tobytes()][0]

  def _answer(self, question: Question) -> Answer:
    if question.waveform is None:
      blind = question.image is None
      return Answer(text="red" if blind else self._written.get(question.text, "it is monday today"))
    turn, example = self._examples[question.waveform.tobytes()]
    reply = example.turns[1]
    style, text = Style.parse(reply.style), reply.text
    if not question.hear_style:
      style, text = Style("female", "neutral", "normal"), "you sound calm about your friend"
    if example.image and (question.image is None or self.stage == "tune_without_triples"):
      return Answer(text="", problem="no text", waveform=np.zeros(0, np.float32))
    return Answer(text=text, heard_text=turn.text, heard_style=style, style=style, waveform=buzz(style, 3))
