"""What each split of each set will hold: records in full but for their sound, which `record` adds.

A plan is cheap and a function of its arguments alone, so that the costly part, speaking, can be spread over processes.
Test splits take only held-out sentences and held-out scenes; training splits never do.

    set            train                              test splits
    text           sentences; questions and answers   test
    images         captions, questions about scenes   test: held-out combinations
    speech         one utterance each                 test; test_voice (unheard voice); pairs (same words, four moods)
    dialogue       facts, and remarks by mood         test; pairs (same words, four moods)
    spoken_images  a small share                      test
    mandarin       one utterance each, in pinyin      test; test_voice (unheard voice)
    styles                                            test: the same words in all 24 styles
"""

import dataclasses
import random
from collections.abc import Callable, Iterator

from omni_jax.core.styles import ALL_STYLES, EMOTIONS, PITCHES, Style
from omni_jax.prepare import mandarin, scenes, sentences
from omni_jax.prepare.audio import encode_flac
from omni_jax.prepare.phonemes import phones
from omni_jax.prepare.schema import Example, Turn
from omni_jax.prepare.sentences import Exchange, is_held_out
from omni_jax.prepare.voices import espeak
from omni_jax.prepare.voices.catalogue import MANDARIN, Cast, speak, voice

CAPTION_REQUEST = "what do you see"
_KIND_SHARES = {"one": 0.22, "two": 0.38, "many": 0.14, "word": 0.26}
# Sentences of every part of the world are spoken, so that all of them can be recognised and said.
_SPOKEN_SHARES = {"statement": 0.4, "fact": 0.15, "remark": 0.2, "picture": 0.25}
_ONE_VOICE_SHARE = 0.24  # of the speech set, for each of the two answer voices


def plan_text(count: int, *, held_out: bool, seed: str) -> list[Example]:
  """Returns sentences (one turn) and questions with answers (two turns), as text alone."""
  chooser = random.Random(seed)
  exchanges = [fact for fact in sentences.facts() if is_held_out(fact.question) == held_out]
  examples = []
  for index in range(count):
    if chooser.random() < 0.3:
      exchange = chooser.choice(exchanges)
      turns = (Turn("user", exchange.question), Turn("assistant", exchange.answer))
    else:
      turns = (Turn("assistant", _sentence(chooser, held_out=held_out, share_of_answers=0.35)),)
    examples.append(Example(f"text/{index:06d}", "text", turns))
  return examples


def plan_images(count: int, *, questions_per_image: int, held_out: bool, seed: str) -> Iterator[Example]:
  """Yields for each of `count` pictures a caption and up to `questions_per_image` questions.

  A training picture is one record with all of them, a held-out one a record for each. The first part of an id is the
  kind of every exchange.
  """
  chooser = random.Random(seed)
  for index in range(count):
    scene = _scene(chooser, held_out=held_out)
    image = scenes.draw(scene)
    exchanges = _annotations(scene, chooser, questions_per_image=questions_per_image, held_out=held_out)
    if not held_out:
      kinds = "+".join(exchange.kind for exchange in exchanges)
      yield Example(f"{kinds}/{scene.kind}/{index:06d}", "annotations", _turns(*exchanges), image)
      continue
    for number, exchange in enumerate(exchanges):
      task = "caption" if exchange.kind == "caption" else "visual_question"
      yield Example(f"{exchange.kind}/{scene.kind}/{index:06d}-{number}", task, _turns(exchange), image)


def plan_speech(count: int, *, cast: Cast, held_out: bool, seed: str) -> list[Example]:
  """Returns single utterances of the seen voices; each voice goes through its styles evenly."""
  chooser = random.Random(seed)
  voices = _voices(cast, count, chooser)
  styles = {name: _style_cycle(gender, chooser) for gender, names in cast.seen.items() for name in names}
  spoken: set[str] = set()
  examples = []
  for index, voice_name in enumerate(voices):
    text = _sentence(chooser, held_out=held_out, share_of_answers=0.5)
    while held_out and text in spoken:
      text = _sentence(chooser, held_out=held_out, share_of_answers=0.5)
    spoken.add(text)
    examples.append(_utterance(f"speech/{index:06d}", text, next(styles[voice_name]), voice_name))
  return examples


def plan_unheard_voice(count: int, *, cast: Cast, seed: str) -> list[Example]:
  """Returns held-out sentences in the voice that no training split hears."""
  chooser = random.Random(seed)
  return [
    _utterance(
      f"voice/{index:06d}",
      _sentence(chooser, held_out=True, share_of_answers=0.5),
      cast.held_out_styles[index % len(cast.held_out_styles)],
      cast.held_out,
    )
    for index in range(count)
  ]


def plan_speech_pairs(count: int, *, cast: Cast, seed: str) -> list[Example]:
  """Returns `count` held-out sentences, each said four times by one voice, once in each emotion."""
  chooser = random.Random(seed)
  examples = []
  for index in range(count):
    text = _held(sentences.remark, chooser, held_out=True)
    gender, voice_name = _user(chooser, cast)
    for emotion in EMOTIONS:
      style = Style(gender, emotion, "normal")
      examples.append(_utterance(f"pair/{index:06d}/{emotion}", text, style, voice_name))
  return examples


def plan_dialogue(count: int, *, cast: Cast, held_out: bool, seed: str) -> list[Example]:
  """Returns spoken exchanges, half about facts and half remarks whose answer names the mood."""
  chooser = random.Random(seed)
  exchanges = [fact for fact in sentences.facts() if is_held_out(fact.question) == held_out]
  cycles = {gender: _style_cycle(gender, chooser) for gender in cast.seen}
  examples = []
  for index in range(count):
    gender, voice_name = _user(chooser, cast)
    style = next(cycles[gender])
    if index % 2:
      exchange = chooser.choice(exchanges)
    else:
      exchange = _mood_exchange(_held(sentences.remark, chooser, held_out=held_out), style)
    examples.append(_spoken(f"{exchange.kind}/{index:06d}", exchange, style, voice_name, cast))
  return examples


def plan_dialogue_pairs(count: int, *, cast: Cast, seed: str) -> list[Example]:
  """Returns `count` held-out remarks, each said in all four emotions by one voice and answered four times."""
  chooser = random.Random(seed)
  examples = []
  for index in range(count):
    text = _held(sentences.remark, chooser, held_out=True)
    gender, voice_name = _user(chooser, cast)
    for emotion in EMOTIONS:
      style = Style(gender, emotion, "normal")
      exchange = _mood_exchange(text, style)
      examples.append(_spoken(f"pair/{index:06d}/{emotion}", exchange, style, voice_name, cast))
  return examples


def plan_spoken_images(count: int, *, cast: Cast, held_out: bool, seed: str) -> list[Example]:
  """Returns spoken questions about pictures with spoken answers."""
  chooser = random.Random(seed)
  cycles = {gender: _style_cycle(gender, chooser) for gender in cast.seen}
  examples = []
  for index in range(count):
    scene = _scene(chooser, held_out=held_out)
    exchange = chooser.choice(scenes.questions(scene))
    gender, voice_name = _user(chooser, cast)
    spoken = _spoken(f"{exchange.kind}/{scene.kind}/{index:06d}", exchange, next(cycles[gender]), voice_name, cast)
    examples.append(dataclasses.replace(spoken, task="spoken_visual_question", image=scenes.draw(scene)))
  return examples


def plan_styles(count: int, *, cast: Cast, seed: str) -> list[Example]:
  """Returns `count` held-out statements, each said in all 24 styles by the two voices that answer."""
  chooser = random.Random(seed)
  texts: list[str] = []
  while len(texts) < count:
    text = _held(sentences.statement, chooser, held_out=True)
    texts += [] if text in texts else [text]
  return [
    _utterance(f"style/{index:06d}/{style}", text, style, cast.answers[style.gender])
    for index, text in enumerate(texts)
    for style in ALL_STYLES
  ]


def plan_mandarin(count: int, *, held_out: bool, seed: str) -> list[Example]:
  """Returns single utterances of the seen Mandarin voices in three pitches."""
  chooser = random.Random(seed)
  voices = [(gender, name) for gender, names in MANDARIN.seen.items() for name in names]
  examples = []
  for index in range(count):
    gender, voice_name = voices[index % len(voices)]
    style = Style(gender, "neutral", PITCHES[index // len(voices) % len(PITCHES)])
    text = _held(mandarin.sentence, chooser, held_out=held_out)
    examples.append(_utterance(f"mandarin/{index:06d}", text, style, voice_name))
  return examples


def plan_unheard_mandarin(count: int, *, seed: str) -> list[Example]:
  """Returns held-out Mandarin sentences in the voice that the training split does not hear."""
  chooser, styles = random.Random(seed), MANDARIN.held_out_styles
  texts = [_held(mandarin.sentence, chooser, held_out=True) for _ in range(count)]
  return [
    _utterance(f"voice/{index:06d}", text, styles[index % len(styles)], MANDARIN.held_out)
    for index, text in enumerate(texts)
  ]


def record(example: Example) -> Example:
  """Returns `example` with the sound and the phones of every turn that names a voice."""
  return dataclasses.replace(example, turns=tuple(_record(turn) if turn.voice else turn for turn in example.turns))


def _record(turn: Turn) -> Turn:
  waveform = speak(turn.text, Style.parse(turn.style), voice_name=turn.voice)
  spoken_phones = mandarin.pinyin_phones if voice(turn.voice).language == espeak.MANDARIN else phones
  return dataclasses.replace(turn, audio=encode_flac(waveform), phones=" ".join(spoken_phones(turn.text)))


def _utterance(name: str, text: str, style: Style, voice_name: str) -> Example:
  return Example(name, "speech", (Turn("user", text, style=str(style), voice=voice_name),))


def _spoken(name: str, exchange: Exchange, style: Style, voice_name: str, cast: Cast) -> Example:
  answer_style = sentences.reply_style(style)
  answer_voice = cast.answers[answer_style.gender]
  turns = (
    Turn("user", exchange.question, style=str(style), voice=voice_name),
    Turn("assistant", exchange.answer, style=str(answer_style), voice=answer_voice),
  )
  return Example(name, "dialogue", turns)


def _mood_exchange(text: str, style: Style) -> Exchange:
  return Exchange(text, sentences.reply_to(text, style.emotion), "mood")


def _user(chooser: random.Random, cast: Cast) -> tuple[str, str]:
  gender = chooser.choice(tuple(cast.seen))
  return gender, chooser.choice(cast.seen[gender])


def _annotations(
  scene: scenes.Scene, chooser: random.Random, *, questions_per_image: int, held_out: bool
) -> list[Exchange]:
  """Returns the caption and some questions; in training those for colors come first, since they are learned last."""
  asked = list(scenes.questions(scene))
  chooser.shuffle(asked)
  if not held_out:
    asked.sort(key=lambda exchange: exchange.kind != "color")
  return [Exchange(CAPTION_REQUEST, scenes.caption(scene), "caption"), *asked[:questions_per_image]]


def _turns(*exchanges: Exchange) -> tuple[Turn, ...]:
  pairs = [(Turn("user", each.question), Turn("assistant", each.answer)) for each in exchanges]
  return tuple(turn for pair in pairs for turn in pair)


def _scene(chooser: random.Random, *, held_out: bool) -> scenes.Scene:
  kind = chooser.choices(tuple(_KIND_SHARES), tuple(_KIND_SHARES.values()))[0]
  scene = scenes.make_scene(chooser, kind)
  while scene.is_held_out != held_out:
    scene = scenes.make_scene(chooser, kind)
  return scene


def _held(make: Callable[[random.Random], str], chooser: random.Random, *, held_out: bool) -> str:
  text = make(chooser)
  while is_held_out(text) != held_out:
    text = make(chooser)
  return text


def _sentence(chooser: random.Random, *, held_out: bool, share_of_answers: float) -> str:
  """Returns a sentence of any part of the world, a question or an answer, on the asked side of the split."""

  def make(source: random.Random) -> str:
    kind = source.choices(tuple(_SPOKEN_SHARES), tuple(_SPOKEN_SHARES.values()))[0]
    if kind == "statement":
      return sentences.statement(source)
    if kind == "fact":
      exchange = source.choice(sentences.facts())
    elif kind == "remark":
      text = sentences.remark(source)
      exchange = Exchange(text, sentences.reply_to(text, source.choice(EMOTIONS)), "mood")
    else:
      scene = scenes.make_scene(source, source.choice(scenes.KINDS))
      if source.random() < 0.4:
        return scenes.caption(scene)
      exchange = source.choice(scenes.questions(scene))
    return exchange.answer if source.random() < share_of_answers else exchange.question

  return _held(make, chooser, held_out=held_out)


def _voices(cast: Cast, count: int, chooser: random.Random) -> list[str]:
  """Returns `count` voice names in random order: a fixed share for each answer voice, the others evenly."""
  answers = cast.answering
  others = [name for names in cast.seen.values() for name in names if name not in answers]
  each = round(_ONE_VOICE_SHARE * count)
  names = [name for name in answers for _ in range(each)]
  names += [others[index % len(others)] for index in range(count - len(names))]
  chooser.shuffle(names)
  return names


def _style_cycle(gender: str, chooser: random.Random) -> Iterator[Style]:
  """Yields the twelve styles of a gender for ever, each as often as the others, in a new order every round."""
  styles = [style for style in ALL_STYLES if style.gender == gender]
  while True:
    chooser.shuffle(styles)
    yield from styles
