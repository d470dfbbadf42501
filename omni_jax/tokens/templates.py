"""Chat templates: what stands between the turns. `<|name|>` is the control token of that name, all else is text.

TINY spends one token on each border and one on each request, because a token costs a small model on a CPU as much as a
large one; it closes a turn of the user by opening the reply. CHATML is the template of Qwen2 with the request sentences
of EMOVA (arXiv 2409.18042; spelling as released, since the released weights know no other).
"""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Template:
  """The pieces between turns, in order; a piece `<|name|>` is a control token."""

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

CHATML = Template(
  document_open=(),
  system_open=("<|start|>", "system\n"),
  system_close=("<|end|>", "\n"),
  user_open=("<|start|>", "user\n"),
  user_close=("<|end|>", "\n"),
  assistant_open=("<|start|>", "assistant\n"),
  assistant_close=("<|end|>", "\n"),
  image_close=("\n",),
  transcribe=("Please recognize the text corresponding to the follwing speech.\n",),
  say=("Please synthesize the speech corresponding to the follwing text.\n",),
  # The backslashes and the full-width comma are in the released prompt.
  respond=(
    "Please recognize the texts, emotion and pitch from the user question speech units and provide the texts, emotion, "
    r"pitch and speech units for the assistant response. \nEmotion should be chosen from "
    r'["neutral", "happy", "sad", "angry", "surprised", "disgusted", "fearful"]. \nPitch should be chosen from '
    r'["low", "normal", "high"].\nYour output should be in json format.\nAn output example is:\n{"user question text": '
    '"", "user question emotion": "", "user question pitch": "", "assistant response text": "", "assistant response '
    'emotion": "", "assistant response pitch": ""，"assistant response speech": ""}'
    r"\n\nuser question speech:",
  ),
)
