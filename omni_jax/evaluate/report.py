"""`omni report`: one HTML page with everything a person wants to see and hear of a run; nothing is loaded from outside.

Reads `evaluation/` and `stages/*/{run.json,metrics.jsonl}` of a working folder; trains and evaluates nothing.
"""

import functools
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from omni_jax.core.files import write_whole
from omni_jax.evaluate import report_parts, report_training
from omni_jax.evaluate.comparison import evaluated_systems
from omni_jax.evaluate.figures import read_json
from omni_jax.evaluate.report_style import SCRIPT, STYLE
from omni_jax.evaluate.systems import SYSTEMS

_OF_EMOVA = "it recognises speech, looks at a picture and answers aloud in a chosen style"
_OF_OTHERS = "it recognises speech and answers aloud"
_INTRODUCTION = """
<p>A small assistant of the {title} kind, trained from nothing: {does}. This page shows what it learned, beside what
guessing, a blind model and a cascade reach on the same samples.</p>
<p class="soft">What to keep in mind. All <b>voices are synthetic</b> (flite and espeak-ng), all images are drawn by a
program; the language is a closed world of a few hundred words. The <b>styles are synthetic prosody classes</b>: stated
settings of mean pitch, pitch range and rate, named after emotions, not acted emotions. Test sentences, combinations of
shapes and colours, and one whole voice were held out of training. Every figure is of one training run; the intervals
(95 %, bootstrap) say how much it would move with other test samples, not with another seed. Answers that break their
layout count as wrong.</p>
"""


def write_report(workdir: Path) -> Path:
  """Writes `<workdir>/report.html` and returns its path; where several systems were evaluated, it shows all.

  Raises:
    UserError: nothing was evaluated yet.
  """
  results = evaluated_systems(workdir)
  if not results:
    remedy = f"run `omni evaluate --workdir {workdir}` first"
    read_json(workdir / "evaluation" / "results.json", remedy=remedy)
  page = _page(workdir, results)
  path = workdir / "report.html"
  write_whole(path, page)
  return path


def _page(workdir: Path, systems: Mapping[str, Mapping[str, Any]]) -> str:
  first, *others = systems
  results, folder = systems[first], SYSTEMS[first].results(workdir)
  samples = functools.partial(_samples, folder)
  stages = report_training.read_stages(workdir / "stages")
  sections = {
    "Goals": report_parts.goals(results),
    "Systems side by side": report_parts.side_by_side(systems) if others else "",
    "Look and listen": report_parts.exchanges(samples("spoken_images"), samples("dialogue"), folder=folder),
    "Styles": report_parts.styles(samples("style"), results["tables"].get("style", {}), folder=folder),
    "The user's emotion": report_parts.emotions(
      samples("emotion_heard"), results["tables"].get("emotion_heard", {}), folder=folder
    ),
    "Original, resynthesised, spoken": report_parts.voices(samples("synthesis"), folder=folder),
    "All figures": report_parts.figures(results),
    **{SYSTEMS[name].title: _other(workdir, name, systems[name]) for name in others},
    "Training": report_training.training(stages),
    "Time": report_training.times(results, stages),
    "Versions and configs": report_training.configs(results, stages),
  }
  shown = {title: body for title, body in sections.items() if body}
  links = "".join(f'<a href="#{_anchor(title)}">{escape(title)}</a>' for title in shown)
  body = "".join(f'<h2 id="{_anchor(title)}">{escape(title)}</h2>{content}' for title, content in shown.items())
  title = f"omni_jax report: {escape(workdir.resolve().name)}"
  head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
  when = f"{escape(results['finished'])} &middot; {escape(results['machine'])}"
  sees = first == "emova"
  introduction = _INTRODUCTION.format(title=SYSTEMS[first].title, does=_OF_EMOVA if sees else _OF_OTHERS)
  return (
    f'<!doctype html><html lang="en"><head>{head}<style>{STYLE}</style></head><body><main>'
    f'<h1>An assistant that {"sees, " if sees else ""}hears and speaks</h1><div class="soft">{title} &middot; {when}'
    f"</div><nav>{links}</nav>{introduction}{body}</main><script>{SCRIPT}</script></body></html>\n"
  )


def _other(workdir: Path, name: str, results: Mapping[str, Any]) -> str:
  """Returns the section of a system that stands behind the first one."""
  folder = SYSTEMS[name].results(workdir)
  samples = functools.partial(_samples, folder)
  parts = (
    report_parts.goals(results),
    report_parts.exchanges(samples("spoken_images"), samples("dialogue"), folder=folder),
    report_parts.voices(samples("synthesis"), folder=folder),
    report_parts.figures(results),
  )
  return "".join(parts)


def _samples(folder: Path, task: str) -> list[dict[str, Any]]:
  """Returns the samples of a task, none if it was not run."""
  path = folder / f"{task}.jsonl"
  return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _anchor(title: str) -> str:
  return "".join(letter if letter.isalnum() else "-" for letter in title.lower())
