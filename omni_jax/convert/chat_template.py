"""A chat template in Jinja, as tokenizers of `transformers` keep it: writes what `tokens.templates.render` writes.

A message's content is a string, or a list of {"type": "image"} and {"type": "text", "text": ...}; images stand first in
their turn, one `<image>` each, as in training. Beyond `render`, text that spells a special token is one there: their
tokenizers find it in any text.
"""

import json
from collections.abc import Sequence

from omni_jax.tokens.extension import IMAGE
from omni_jax.tokens.templates import Template

# Filled by `chat_template`: a name in capitals is a piece of the template as a literal.
_JINJA = """
{%- macro said(content) -%}
  {%- if content is string -%}{{- content -}}
  {%- else -%}
    {%- for part in content if part.type == 'image' -%}{{- IMAGE -}}{%- endfor -%}
    {%- for part in content if part.type == 'text' -%}{{- part.text -}}{%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{{- OPENING -}}
{%- if messages and messages[0].role == 'system' -%}
  {%- set about, turns = said(messages[0].content), messages[1:] -%}
{%- else -%}
  {%- set about, turns = SYSTEM, messages -%}
{%- endif -%}
{%- if about -%}{{- ABOVE + about + BELOW -}}{%- endif -%}
{%- for message in turns -%}
  {%- if message.role == 'user' -%}
    {{- FIRST if loop.first else LATER -}}{{- said(message.content) -}}{{- ASKED -}}
  {%- else -%}
    {{- REPLY -}}{{- said(message.content) -}}{{- REPLIED -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- PROMPT -}}{%- endif -%}
"""


def chat_template(template: Template) -> str:
  """Returns the Jinja text of a template."""
  later = template.user_open if template.next_user_open is None else template.next_user_open
  pieces: dict[str, Sequence[str]] = {
    "IMAGE": (IMAGE, *template.image_close),
    "OPENING": template.opening,
    "SYSTEM": (template.system,),
    "ABOVE": template.system_open,
    "BELOW": template.system_close,
    "FIRST": template.user_open,
    "LATER": later,
    "ASKED": template.user_close,
    "REPLY": (*template.assistant_open, *template.answer_open),
    "REPLIED": template.assistant_close,
    "PROMPT": template.assistant_open,
  }
  lines = [f"{{%- set {name} = {json.dumps(''.join(text))} -%}}" for name, text in pieces.items()]
  return "\n".join([*lines, *_JINJA.strip().splitlines()]) + "\n"
