import pytest

from omni_jax.convert.chat_template import chat_template
from omni_jax.tokens.templates import LLAMA_2, QWEN2, TEMPLATES, TINY, render

PAIRS = [("Hi!", "Hello."), ("Who are\nyou {{ x }} 'quoted' \"twice\" \\n?", "A model, 你好.")]
ALL = {**TEMPLATES, "tiny": TINY}


def written(template, messages, **options):
  """Renders as transformers does: the same options of the same library."""
  jinja2 = pytest.importorskip("jinja2.sandbox")
  environment = jinja2.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
  return environment.from_string(chat_template(template)).render(messages=messages, **options)


def messages_of(pairs, *, system=None, question=None):
  messages = [] if system is None else [{"role": "system", "content": system}]
  for asked, answer in pairs:
    messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
  return messages + ([] if question is None else [{"role": "user", "content": question}])


@pytest.mark.parametrize("system", [None, "", " be\nbig "])
@pytest.mark.parametrize("name", ALL)
def test_every_template_is_written_alike(name, system):
  template = ALL[name]
  for pairs in ([], PAIRS[:1], PAIRS):
    whole = written(template, messages_of(pairs, system=system))
    assert whole == render(template, pairs, system=system)
    asked = written(template, messages_of(pairs, system=system, question="Why?"), add_generation_prompt=True)
    assert asked == render(template, pairs, system=system, question="Why?")


def test_images_stand_first_in_their_turn():
  content = [{"type": "text", "text": "What is this?"}, {"type": "image"}]
  expected = render(QWEN2, [], question="<image>\nWhat is this?")
  assert written(QWEN2, [{"role": "user", "content": content}], add_generation_prompt=True) == expected
  later = [*messages_of(PAIRS[:1]), {"role": "user", "content": content}]
  expected = render(LLAMA_2, PAIRS[:1], question="<image>\nWhat is this?")
  assert written(LLAMA_2, later, add_generation_prompt=True) == expected
