"""Sections of the report about how the run was made: loss curves, times, versions, configs."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from omni_jax.checkpoint.card import read_card
from omni_jax.evaluate import report_charts
from omni_jax.train.metrics import read_metrics

# In the order of the journey; a stage is placed by the first of these that its name starts with.
_ORDER = (
  "tokenizer",
  "style",
  "vocoder_filters",
  "vocoder",
  "unit_vocoder",
  "unit_voice",
  "snac",
  "speech_gpt_units",
  "speech_gpt_cross",
  "speech_gpt",
  "mini_omni_base",
  "mini_omni_adapters",
  "mini_omni_language",
  "mini_omni",
  "pretrain",
  "prealign",
  "align",
  "tune",
)


class Stage(NamedTuple):
  """A trained stage: its name, its card (`run.json`), its logged lines, and the sounds it kept."""

  name: str
  card: Mapping[str, Any]
  lines: Sequence[Mapping[str, float]]
  sounds: tuple[Path, ...] = ()


def read_stages(folder: Path) -> list[Stage]:
  """Returns the stages that have a card, in the order of the journey."""
  found = [path.parent for path in folder.glob("*/run.json")]
  return [
    Stage(path.name, read_card(path), read_metrics(path), tuple(sorted(path.glob("sounds/*.flac"))))
    for path in sorted(found, key=_place)
  ]


def training(stages: Sequence[Stage]) -> str:
  """Returns a table of stages and their loss curves."""
  if not stages:
    return ""
  head = "".join(
    f'<th class="number">{name}</th>' for name in ("steps", "seconds", "first loss", "last loss", "rate", "peak memory")
  )
  rows = "".join(_stage_row(stage) for stage in stages if stage.lines)
  charts = "".join(report_charts.curve(stage.name, stage.lines, detail=_detail(stage)) for stage in stages)
  heard = "".join(_sounds(stage) for stage in stages if stage.sounds)
  return (
    "<p>Nothing starts from released weights: what EMOVA takes pretrained is trained here first, by the same code, and "
    f'its time is in the table.</p><div class="scroll"><table><tr><th>stage</th>{head}<th>other last values</th></tr>'
    f'{rows}</table></div><div class="charts">{charts}</div>{heard}'
  )


def times(results: Mapping[str, Any], stages: Sequence[Stage]) -> str:
  """Returns where the time goes: one answer by stage, training by stage, evaluation by task."""
  parts = []
  answer = results["tables"].get("timings", {}).get("CPU seconds by stage", {})
  if answer:
    parts.append(f"<h3>One spoken answer, CPU seconds by stage</h3>{report_charts.bars(answer, unit='s')}")
  trained = {stage.name: stage.lines[-1]["seconds"] for stage in stages if stage.lines}
  if trained:
    total = f"Training, {sum(trained.values()) / 60:.1f} minutes"
    parts.append(f"<h3>{total}</h3>{report_charts.bars(trained, unit='s')}")
  seconds = results["seconds"]
  total = f"Evaluation, {sum(seconds.values()) / 60:.1f} minutes"
  parts.append(f"<h3>{total}</h3>{report_charts.bars(seconds, unit='s')}")
  return "".join(parts)


def configs(results: Mapping[str, Any], stages: Sequence[Stage]) -> str:
  """Returns versions, and every config folded away."""
  versions = "".join(f'<span class="chip">{escape(name)} {escape(v)}</span>' for name, v in results["versions"].items())
  folded = "".join(_folded(f"stage {stage.name}", stage.card) for stage in stages)
  return f"<p>{versions}</p>{folded}{_folded('evaluation', results['settings'])}"


def _stage_row(stage: Stage) -> str:
  first, last = stage.lines[0], stage.lines[-1]
  rate = next((f"{last[name]:.0f} {name.split('_')[0]}/s" for name in last if name.endswith("_per_second")), "")
  known = {"step", "loss", "seconds", "peak_memory_gib", "gradient_norm", "learning_rate"}
  others = "".join(
    f'<span class="chip">{escape(name)} {value:.3g}</span>'
    for name, value in last.items()
    if name not in known and not name.endswith("_per_second")
  )
  memory = f"{last['peak_memory_gib']:.1f} GiB" if "peak_memory_gib" in last else ""
  cells = (f"{last['step']:.0f}", f"{last['seconds']:.0f}", f"{first['loss']:.3f}", f"{last['loss']:.3f}", rate, memory)
  numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
  return f"<tr><td>{escape(stage.name)}</td>{numbers}<td>{others}</td></tr>"


def _sounds(stage: Stage) -> str:
  kept = "".join(f"{escape(path.stem)} {report_charts.sound(path)} " for path in stage.sounds)
  return f"<p>{escape(stage.name)}, a clip at the last checkpoint: {kept}</p>"


def _detail(stage: Stage) -> str:
  return f"loss, {stage.lines[-1]['loss']:.3f} at the end" if stage.lines else "nothing logged"


def _folded(name: str, value: Any) -> str:
  return f"<details><summary>{escape(name)}</summary><pre>{escape(json.dumps(value, indent=1))}</pre></details>"


def _place(folder: Path) -> tuple[int, str]:
  starts = [index for index, name in enumerate(_ORDER) if folder.name.startswith(name)]
  return (starts[0] if starts else len(_ORDER)), folder.name
