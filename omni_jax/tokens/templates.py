"""Chat templates: what stands between the turns. Special tokens are spelt in them as the vocabulary names them.

TINY spends one token on each border and one on each request, because a token costs a small model on a CPU as much as a
large one; it closes a turn of the user by opening the reply.

The others are those of EMOVA (emova/conversation.py, `conv_templates`), with its request sentences, misspelt as they
are since the released weights know no other. `opening` has the token that the base's own tokenizer puts before any
text, so llama3 begins with two. Where its text of a prompt ends before a space or a line that belongs to the answer's
text, so does ours: the answer then begins with it (`answer_open`). Left out: the example conversation of v0, which a
caller may give as the first turns.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

from omni_jax.core.config import added
from omni_jax.core.errors import UserError
from omni_jax.tokens.text import Segment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Template:
  """The pieces between turns, in order; what they spell of the vocabulary's special tokens enters as ids."""

  document_open: tuple[str, ...]
  system_open: tuple[str, ...]
  system_close: tuple[str, ...]
  user_open: tuple[str, ...]
  user_close: tuple[str, ...]
  assistant_open: tuple[str, ...]
  assistant_close: tuple[str, ...]  # learned: it ends the answer
  image_close: tuple[str, ...]  # between an image and what follows it
  transcribe: tuple[str, ...]  # before speech to be written down
  say: tuple[str, ...]  # before text to be spoken
  respond: tuple[str, ...]  # before speech to be answered
  opening: tuple[str, ...] = added(())  # before everything
  system: str = added("")  # text of the system turn if none is given
  next_user_open: tuple[str, ...] | None = added(None)  # of later turns, where it is another
  answer_open: tuple[str, ...] = added(())  # learned: it begins the answer


# What a template spells in one of these ways must be a special token of the vocabulary, and not text by accident.
_SPECIAL = re.compile(r"<\|[^|<>]+\|>|<｜[^｜]+｜>|</?s>|<sop>|\[gMASK\]")


def spell(pieces: Sequence[str], named: Mapping[str, int]) -> Iterator[Segment]:
  """Yields text and ids of a part of a template.

  Args:
    pieces: the part.
    named: name -> id of the vocabulary's special tokens.

  Raises:
    UserError: it spells a special token that the vocabulary lacks.
  """
  names = sorted(named, key=len, reverse=True)
  borders = re.compile("|".join([*map(re.escape, names), _SPECIAL.pattern]))
  text, place = "".join(pieces), 0
  for match in borders.finditer(text):
    if match[0] not in named:
      raise UserError(
        f"the template spells {match[0]!r}",
        where="template",
        rule=f"the special tokens of the vocabulary are {', '.join(list(named)[:12])}",
        remedy="choose the template of this base model, or extend its vocabulary",
      )
    yield text[place : match.start()]
    yield [named[match[0]]]
    place = match.end()
  yield text[place:]


def render(
  template: Template, pairs: Sequence[tuple[str, str]], *, system: str | None = None, question: str | None = None
) -> str:
  """Returns a conversation as text, special tokens spelt out: for people and other programs, never to be encoded.

  Args:
    template: what stands between the turns.
    pairs: questions and answers.
    system: what stands first; by default what the template says.
    question: a last one, whose answer is to come.
  """
  about = template.system if system is None else system
  parts = [*template.opening, *([*template.system_open, about, *template.system_close] if about else [])]
  turns = [*pairs, (question, None)] if question is not None else [*pairs]
  for number, (asked, answer) in enumerate(turns):
    later = number > 0 and template.next_user_open is not None
    parts += [*((template.next_user_open or ()) if later else template.user_open), asked]
    parts += [*template.user_close, *template.assistant_open]
    if answer is not None:
      parts += [*template.answer_open, answer, *template.assistant_close]
  return "".join(parts)


TINY = Template(
  document_open=("<|start|>",),
  system_open=("<|system|>",),
  system_close=(),
  user_open=("<|user|>",),
  user_close=(),
  assistant_open=("<|assistant|>",),
  assistant_close=("<|end|>",),
  image_close=(),
  transcribe=("<|transcribe|>",),
  say=("<|say|>",),
  respond=(),
)

# The requests of EMOVA (emova/serve/gradio_web_server.py): the last is a raw string there, so that its backslashes are
# backslashes, and it has one full-width comma.
_TRANSCRIBE = "Please recognize the text corresponding to the follwing speech.\n"
_SAY = "Please synthesize the speech corresponding to the follwing text.\n"
RESPOND = (
  "Please recognize the texts, emotion and pitch from the user question speech units and provide the texts, emotion, "
  r"pitch and speech units for the assistant response. \nEmotion should be chosen from "
  r'["neutral", "happy", "sad", "angry", "surprised", "disgusted", "fearful"]. \nPitch should be chosen from '
  r'["low", "normal", "high"].\nYour output should be in json format.\nAn output example is:\n{"user question text": '
  '"", "user question emotion": "", "user question pitch": "", "assistant response text": "", "assistant response '
  'emotion": "", "assistant response pitch": ""，"assistant response speech": ""}'
  r"\n\nuser question speech:"
)
# Nobody outside has seen whether the rows it was trained on hold backslashes or lines; look at one before training.
RESPOND_IN_LINES = RESPOND.replace(r"\n", "\n")

_CURIOUS = (
  "A chat between a curious {0} and an artificial intelligence assistant. "
  "The assistant gives helpful, detailed, and polite answers to the {0}'s questions."
)


def _released(
  *,
  opening: str = "",
  system: tuple[str, str, str] = ("", "", ""),
  user: tuple[str, str],
  assistant: tuple[str, str, str],
  next_user_open: str | None = None,
) -> Template:
  """Returns a template of EMOVA.

  Args:
    opening: before everything.
    system: what opens it, its text, what closes it.
    user: what opens and closes a question.
    assistant: what opens an answer, what begins its text, what ends it.
    next_user_open: what opens a question after an answer, if it is something else.
  """
  return Template(
    document_open=(opening,),
    opening=(opening,),
    system_open=(system[0],),
    system=system[1],
    system_close=(system[2],),
    user_open=(user[0],),
    next_user_open=None if next_user_open is None else (next_user_open,),
    user_close=(user[1],),
    assistant_open=(assistant[0],),
    answer_open=(assistant[1],),
    assistant_close=(assistant[2],),
    image_close=("\n",),
    transcribe=(_TRANSCRIBE,),
    say=(_SAY,),
    respond=(RESPOND,),
  )


def _chatml(*, system: str, line: str) -> Template:
  """Returns a template of ChatML with `line` after the end of each turn."""
  return _released(
    system=("<|im_start|>system\n", system, "<|im_end|>" + line),
    user=("<|im_start|>user\n", "<|im_end|>" + line),
    assistant=("<|im_start|>assistant\n", "", "<|im_end|>" + line),
  )


QWEN2 = _chatml(system="You are a helpful assistant.", line="\n")
QWEN2_DEMO = _chatml(
  system="You are a helpful assistant. Your name is emova, and you are purely developed by the emova Team.", line="\n"
)
MPT = _chatml(
  system="A conversation between a user and an LLM-based AI assistant. The assistant gives helpful and honest answers.",
  line="",
)
CHATML_DIRECT = _chatml(system="Answer the questions.", line="")
LLAMA3 = _released(
  opening="<|begin_of_text|><|begin_of_text|>",
  system=("<|start_header_id|>system<|end_header_id|>\n\n", _CURIOUS.format("user"), "<|eot_id|>"),
  user=("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"),
  assistant=("<|start_header_id|>assistant<|end_header_id|>\n\n", "", "<|eot_id|>"),
)
DEEPSEEK = _released(
  opening="<｜begin▁of▁sentence｜>",
  system=("", _CURIOUS.format("user"), "\n\n"),
  user=("<|User|>: ", "\n\n"),
  assistant=("<|Assistant|>:", " ", "<｜end▁of▁sentence｜>"),
)
# Stage 0: an image and its caption. A base whose tokenizer begins any text with a token needs it as `opening`.
PLAIN = dataclasses.replace(_released(user=("", ""), assistant=("", "", "\n")), image_close=())
VICUNA_V0 = _released(
  opening="<s>",
  system=("", _CURIOUS.format("human"), "###"),
  user=("Human: ", "###"),
  assistant=("Assistant:", " ", "###"),
)
VICUNA_V1 = _released(
  opening="<s>",
  system=("", _CURIOUS.format("user"), " "),
  user=("USER: ", " "),
  assistant=("ASSISTANT:", " ", "</s>"),
)
LLAMA_2 = _released(
  opening="<s>[INST] ",
  system=(
    "<<SYS>>\n",
    # The system text of Llama 2, needed to the letter (two spaces included).
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe.  "
    "Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. "
    "Please ensure that your responses are socially unbiased and positive in nature.\n\n"
    "If a question does not make any sense, or is not factually coherent, explain why instead of answering something "
    "not correct. If you don't know the answer to a question, please don't share false information.",
    "\n<</SYS>>\n\n",
  ),
  user=("", " [/INST]"),
  assistant=("", " ", " </s>"),
  next_user_open="<s>[INST] ",
)
MISTRAL = _released(opening="<s>[INST] ", user=("", " [/INST]"), assistant=("", " ", " </s>"), next_user_open="[INST] ")
# An answer ends by opening the next question. Deviation: EMOVA's code reuses a name here and writes one character of
# each of these tokens; meant are the tokens of GLM-4 (its chat_template).
GLM4 = _released(
  opening="[gMASK]<sop><|user|>",
  user=("\n", ""),
  assistant=("<|assistant|>", "\n", "<|user|>"),
)
PHI3 = _released(
  opening="<s>",
  system=("<|system|>\n", _CURIOUS.format("user"), "<|end|>\n"),
  user=("<|user|>\n", "<|end|>\n"),
  assistant=("<|assistant|>\n", "", "<|end|>\n"),
)

# By the names of EMOVA's `version` field.
TEMPLATES = {
  "v0": VICUNA_V0,
  "v1": VICUNA_V1,
  "llama_2": LLAMA_2,
  "mistral_instruct": MISTRAL,
  "chatml_direct": CHATML_DIRECT,
  "plain": PLAIN,
  "mpt": MPT,
  "llama3": LLAMA3,
  "qwen2": QWEN2,
  "qwen2_demo": QWEN2_DEMO,
  "glm4": GLM4,
  "phi3": PHI3,
  "deepseek": DEEPSEEK,
}

# In the order in which a base is asked whether it has their special tokens.
_OF_BASES = ("qwen2", "llama3", "deepseek", "glm4", "phi3", "v1")


def template_of(specials: Mapping[str, int]) -> str:
  """Returns the name of the first template whose special tokens a base's tokenizer has.

  Raises:
    UserError: none.
  """
  for name in _OF_BASES:
    if all(token in specials for token in special_tokens(TEMPLATES[name])):
      return name
  raise UserError(
    f"no template for the special tokens {', '.join(list(specials)[:12]) or 'none'}",
    where="tokenizer",
    rule=f"a base has the special tokens of one of {', '.join(_OF_BASES)}",
    remedy="name a template whose special tokens it has, or take another base",
  )


def special_tokens(template: Template) -> list[str]:
  """Returns the special tokens that a template spells, in order of the fields, each once."""
  parts = (value for value in dataclasses.astuple(template) if isinstance(value, tuple))
  return list(dict.fromkeys(_SPECIAL.findall(" ".join("".join(part) for part in parts))))


def end_token(template: Template) -> str:
  """Returns the special token that ends an answer.

  Raises:
    UserError: the template ends it with text.
  """
  found = _SPECIAL.search("".join(template.assistant_close))
  if found is None:
    raise UserError(
      f"an answer ends with {''.join(template.assistant_close)!r}",
      where="template",
      rule="generation stops at a special token",
      remedy="choose a template that ends an answer with one, or say which token it is",
    )
  return found[0]
