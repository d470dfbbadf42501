"""The small English world of the corpus: about 250 common words, lower case, without punctuation.

Statements (a closed grammar), small facts with several wordings of each question, and remarks that a person makes in
some mood, answered by naming the mood: the same words in two moods get two answers, so only the sound can tell.

Whole sentences are held out by a hash of their text, so that no split of any set trains on them.
"""

import dataclasses
import hashlib
import random

from omni_jax.core.styles import Style

HELD_OUT_SHARE = 0.12

# The word by which an answer names what it hears in the user's voice.
EMOTION_WORDS = {"neutral": "calm", "happy": "happy", "sad": "sad", "angry": "angry"}
REPLY_EMOTION = {"neutral": "neutral", "happy": "happy", "sad": "sad", "angry": "neutral"}
REPLY_PITCH = {"neutral": "normal", "happy": "high", "sad": "low", "angry": "normal"}

_PEOPLE = (
  "my mother", "my father", "my brother", "my sister", "my friend", "the teacher", "the doctor", "the farmer",
  "the old man", "the young woman", "our neighbor", "the little girl", "the little boy", "the captain", "the king",
)  # fmt: skip
_THINGS = (
  "book", "letter", "apple", "picture", "table", "window", "door", "car", "boat", "phone", "box", "paper", "bottle",
  "garden chair", "basket", "camera", "guitar", "jacket", "ticket", "present", "sandwich", "newspaper", "candle",
)  # fmt: skip
_ADJECTIVES = ("small", "big", "old", "new", "heavy", "beautiful", "expensive", "strange", "broken", "yellow", "green")
_VERBS = ("bought", "found", "lost", "opened", "carried", "painted", "watched", "made", "sold", "wanted", "remembered")
_PLACES = (
  "in the garden", "in the kitchen", "at the park", "at school", "at the market", "near the river", "at the station",
  "in the forest", "in the city", "in the village", "on the beach", "in the mountains", "behind the house",
  "at the hospital", "under the bridge",
)  # fmt: skip
_TIMES = (
  "today", "yesterday", "this morning", "last night", "last week", "last summer", "after dinner", "before breakfast",
  "on monday", "on friday", "on sunday", "in the afternoon", "a long time ago",
)  # fmt: skip
_ANIMALS = ("dog", "cat", "horse", "bird", "rabbit", "chicken", "elephant", "monkey")
_MOTIONS = ("ran", "slept", "walked", "played", "waited", "sat quietly", "was hiding", "was eating")
_NUMBERS = ("two", "three", "five", "six", "seven", "ten", "twenty")
_WEATHER = ("cold", "warm", "very hot", "windy", "cloudy", "dark", "quiet", "lovely")
_REQUESTS = (
  "please open",
  "please carry",
  "please bring me",
  "do not forget",
  "look at",
  "can you see",
  "please close",
)

_STATEMENTS = (
  "{person} {verb} a {thing} {place}",
  "{person} {verb} the {adjective} {thing} {time}",
  "{person} {verb} {number} {things} {time}",
  "{time} {person} {verb} a {adjective} {thing}",
  "the {animal} {motion} {place} {time}",
  "there is a {adjective} {thing} {place}",
  "{request} the {adjective} {thing} {place}",
  "it was {weather} {place} {time}",
  "{person} and {person2} were {place} {time}",
  "{time} i saw {number} {animals} {place}",
)

_REMARKS = (
  "{person} {verb} my {thing}",
  "{person} {verb} my {thing} {time}",
  "i am going to see {person} {place}",
  "i have to meet {person} {place} {time}",
  "there is a {animal} {place} again",
  "{time} i {verb} the {adjective} {thing}",
  "i will be {place} with {person}",
)
_REPLIES = ("you sound {mood} about {topic}", "you seem very {mood} about {topic}")

_LIKE = {"dog": "meat", "cat": "fish", "horse": "grass", "bird": "seeds", "rabbit": "carrots", "monkey": "bananas"}
_COLORS = {
  "the sky": "blue", "grass": "green", "the sun": "yellow", "snow": "white", "the night": "black", "milk": "white",
  "the moon": "white", "coffee": "black", "water": "blue", "chocolate": "brown",
}  # fmt: skip
_OPPOSITES = {
  "hot": "cold", "big": "small", "old": "young", "happy": "sad", "open": "closed", "early": "late", "rich": "poor",
  "long": "short", "fast": "slow", "heavy": "light",
}  # fmt: skip
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_COUNTS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_HOMES = {
  "the fish": "in the water", "the bird": "in a tree", "the farmer": "in the village", "the king": "in a castle",
  "the horse": "on a farm", "the monkey": "in the forest", "the doctor": "in the city",
}  # fmt: skip
_WORKS = {
  "the teacher": "at school", "the doctor": "in a hospital", "the farmer": "on a farm", "the captain": "on a boat",
  "the cook": "in a kitchen", "the singer": "on a stage",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Exchange:
  """What a user says and what the assistant answers; `kind` says what is asked for: fact, mood, color, shape, ..."""

  question: str
  answer: str
  kind: str


def is_held_out(text: str) -> bool:
  """Whether the sentence belongs to the test splits, by a hash of its text alone."""
  digest = hashlib.sha256(text.encode()).digest()
  return int.from_bytes(digest[:4], "little") < HELD_OUT_SHARE * 2**32


def statement(random_source: random.Random) -> str:
  """Returns one statement of the grammar."""
  return _fill(random_source.choice(_STATEMENTS), random_source)


def remark(random_source: random.Random) -> str:
  """Returns something a user says in a mood that only the voice tells."""
  return _fill(random_source.choice(_REMARKS), random_source)


def reply_to(text: str, emotion: str) -> str:
  """Returns the answer to a remark: it names the mood heard and what the remark was about."""
  topic = _topic(text)
  template = _REPLIES[0] if len(text) % 2 else _REPLIES[1]
  return template.format(mood=EMOTION_WORDS[emotion], topic=topic)


def reply_style(style: Style) -> Style:
  """Returns the style in which a user of this style is answered: same gender, calm towards anger."""
  return Style(style.gender, REPLY_EMOTION[style.emotion], REPLY_PITCH[style.emotion])


def facts() -> tuple[Exchange, ...]:
  """Returns every wording of every question with its answer, always in the same order."""
  exchanges: list[Exchange] = []
  for thing, color in _COLORS.items():
    exchanges += _ask(f"{thing} is {color}", f"what color is {thing}", f"which color does {thing} have")
  for word, opposite in _OPPOSITES.items():
    answer = f"the opposite of {word} is {opposite}"
    exchanges += _ask(answer, f"what is the opposite of {word}", f"which word is the opposite of {word}")
  for index, day in enumerate(_DAYS):
    after, before = _DAYS[(index + 1) % 7], _DAYS[index - 1]
    exchanges += _ask(f"{after} comes after {day}", f"what day comes after {day}", f"which day follows {day}")
    exchanges += _ask(f"{before} comes before {day}", f"what day comes before {day}", f"which day is before {day}")
  for left in range(1, 6):
    for right in range(1, 6):
      names, sum_name = (_COUNTS[left - 1], _COUNTS[right - 1]), _COUNTS[left + right - 1]
      exchanges += _ask(
        "{} and {} make {}".format(*names, sum_name),
        "how much is {} and {}".format(*names),
        "add {} and {}".format(*names),
      )
  for animal, food in _LIKE.items():
    exchanges += _ask(
      f"the {animal} likes {food}", f"what does the {animal} like to eat", f"what food does the {animal} like"
    )
  for who, where in _HOMES.items():
    exchanges += _ask(f"{who} lives {where}", f"where does {who} live", f"where is the home of {who}")
  for who, where in _WORKS.items():
    exchanges += _ask(f"{who} works {where}", f"where does {who} work", f"what is the place of work of {who}")
  return tuple(exchanges)


def words() -> frozenset[str]:
  """Returns every word of statements, remarks, their answers and the facts."""
  lists = (_PEOPLE, _THINGS, _ADJECTIVES, _VERBS, _PLACES, _TIMES, _ANIMALS, _MOTIONS, _NUMBERS, _WEATHER, _REQUESTS)
  texts = [text for group in lists for text in group]
  texts += [_plural(noun) for noun in (*_THINGS, *_ANIMALS)]
  texts += [exchange.question + " " + exchange.answer for exchange in facts()]
  texts += [
    " ".join(part for part in template.split() if "{" not in part) for template in (*_STATEMENTS, *_REMARKS, *_REPLIES)
  ]
  return frozenset(word for text in (*texts, *EMOTION_WORDS.values(), *_COUNTS, "your", "an") for word in text.split())


def _ask(answer: str, *questions: str) -> list[Exchange]:
  """Returns six wordings: each question bare and behind two polite openings."""
  openings = ("", "please tell me ", "do you know ")
  return [Exchange(opening + question, answer, "fact") for question in questions for opening in openings]


def _fill(template: str, random_source: random.Random) -> str:
  person, person2 = random_source.sample(_PEOPLE, 2)
  thing, animal = random_source.choice(_THINGS), random_source.choice(_ANIMALS)
  text = template.format(
    person=person,
    person2=person2,
    thing=thing,
    things=_plural(thing),
    adjective=random_source.choice(_ADJECTIVES),
    verb=random_source.choice(_VERBS),
    place=random_source.choice(_PLACES),
    time=random_source.choice(_TIMES),
    animal=animal,
    animals=_plural(animal),
    motion=random_source.choice(_MOTIONS),
    number=random_source.choice(_NUMBERS),
    weather=random_source.choice(_WEATHER),
    request=random_source.choice(_REQUESTS),
  )
  words_of = text.split()
  for index in range(len(words_of) - 1):
    if words_of[index] == "a" and words_of[index + 1][0] in "aeiou":
      words_of[index] = "an"
  return " ".join(words_of)


def _plural(noun: str) -> str:
  return noun + ("es" if noun.endswith(("x", "ch")) else "s")


def _topic(text: str) -> str:
  """Returns what a remark is about: the last person, thing or animal it names, as the assistant would say it."""
  best, position = "that", -1
  for noun in (*_THINGS, *_ANIMALS):
    place = f"{text} ".rfind(f" {noun} ")
    if place > position:
      best, position = f"the {noun}", place
  for person in _PEOPLE:
    place = text.rfind(person)
    if place >= 0 and position < 0:
      best = person.replace("my ", "your ")
  return best
