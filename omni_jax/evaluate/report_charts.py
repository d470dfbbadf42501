"""Pictures of the report as inline SVG and HTML: loss curves, intervals, confusion matrices, sounds, bars."""

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from omni_jax.evaluate.table import shown
from omni_jax.prepare.audio import SAMPLE_RATE, decode_audio

_WIDTH, _HEIGHT = 340, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 8, 24
_BARS = 48


def curve(name: str, lines: Sequence[Mapping[str, float]], *, detail: str) -> str:
  """Returns a figure of loss over steps: every logged value pale, their running mean strong."""
  points = [(line["step"], line["loss"]) for line in lines if math.isfinite(line["loss"])]
  if len(points) < 2:
    return f"<figure><figcaption>{escape(name)} <span>too few logged steps</span></figcaption></figure>"
  steps, losses = np.array(points, float).T
  low, high = min(losses.min(), 0) if losses.min() < 0 else 0.0, np.quantile(losses, 0.98) * 1.05
  across = _LEFT + (steps - steps[0]) / (steps[-1] - steps[0]) * (_WIDTH - _LEFT - _RIGHT)
  down = _TOP + (high - np.clip(losses, low, high)) / max(high - low, 1e-9) * (_HEIGHT - _TOP - _BOTTOM)
  smooth = _TOP + (high - np.clip(_running_mean(losses), low, high)) / max(high - low, 1e-9) * (
    _HEIGHT - _TOP - _BOTTOM
  )
  axes = "".join(_level(value, low, high) for value in _ticks(low, high))
  ends = f'<text x="{_LEFT}" y="{_HEIGHT - 6}">{steps[0]:.0f}</text>'
  ends += f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end">step {steps[-1]:.0f}</text>'
  return (
    f"<figure><figcaption>{escape(name)} <span>{escape(detail)}</span></figcaption>"
    f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="100%" role="img" aria-label="loss of {escape(name)}">{axes}{ends}'
    f'<polyline points="{_path(across, down)}" fill="none" stroke="#bcd0f5" stroke-width="1"/>'
    f'<polyline points="{_path(across, smooth)}" fill="none" stroke="#2f6fde" stroke-width="2"/></svg></figure>'
  )


def interval(row: Mapping[str, Any]) -> str:
  """Returns a strip from 0 to 100 %: the interval as a bar, the figure as a dot, each baseline as a tick."""
  if row["value"] is None or row["measure"] in ("seconds", "ratio", "points"):
    return ""
  width, inner = 150, 140

  def place(value: float) -> float:
    return 5 + inner * min(max(value, 0), 1)

  low, high = place(row["low"]), place(row["high"])
  ticks = "".join(
    f'<line x1="{place(base["value"]):.1f}" x2="{place(base["value"]):.1f}" y1="4" y2="18" stroke="#e39a2d" '
    f'stroke-width="2"><title>{escape(name)} {shown(base["value"], row["measure"])}</title></line>'
    for name, base in row["baselines"].items()
  )
  color = {True: "#1c8a55", False: "#c2452d", None: "#2f6fde"}[row.get("reached")]
  return (
    f'<svg width="{width}" height="22" role="img" aria-label="interval">'
    f'<line x1="5" x2="{5 + inner}" y1="11" y2="11" stroke="#e3e7ee" stroke-width="2"/>{ticks}'
    f'<rect x="{low:.1f}" y="7.5" width="{max(high - low, 1):.1f}" height="7" rx="3" fill="{color}" opacity=".3"/>'
    f'<circle cx="{place(row["value"]):.1f}" cy="11" r="4" fill="{color}"/></svg>'
  )


def matrix(title: str, table: Mapping[str, Any]) -> str:
  """Returns a confusion matrix: shares of each row, darker where larger, green on the diagonal."""
  labels = table["labels"]
  counts = np.array(table["counts"], float)
  columns = [*labels, "other"] if counts[:, -1].any() else labels
  shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
  head = "".join(f"<th>{escape(label)}</th>" for label in columns)
  rows = ""
  for index, label in enumerate(labels):
    cells = "".join(
      _cell(shares[index, column], int(counts[index, column]), right=index == column) for column in range(len(columns))
    )
    rows += f'<tr><th class="row">{escape(label)}</th>{cells}</tr>'
  note = f'<div class="note">rows: true or asked; columns: {escape(table["columns"])}; n = {int(counts.sum())}</div>'
  return f'<div><h3>{escape(title)}</h3><table class="matrix"><tr><th></th>{head}</tr>{rows}</table>{note}</div>'


def bars(values: Mapping[str, float], *, unit: str) -> str:
  """Returns horizontal bars with their values."""
  most = max([*values.values(), 1e-9])
  rows = "".join(
    f'<tr><td>{escape(name)}</td><td><svg width="320" height="14"><rect width="{max(316 * value / most, 1):.0f}" '
    f'height="12" y="1" rx="3" fill="#8fb0ee"/></svg></td><td class="number">{value:.2f} {unit}</td></tr>'
    for name, value in values.items()
  )
  return f'<table style="width:auto">{rows}</table>'


def sound(path: Path) -> str:
  """Returns a button that plays a FLAC file, with the shape of its waveform; the file is inside the page."""
  content = path.read_bytes()
  waveform = decode_audio(content)
  chunks = np.array_split(np.abs(waveform), _BARS)
  peaks = np.array([chunk.max() if len(chunk) else 0 for chunk in chunks]) / max(float(np.abs(waveform).max()), 1e-6)
  shape = "".join(
    f'<rect x="{2 * index}" y="{11 - 10 * peak:.1f}" width="1.4" height="{max(20 * peak, 1):.1f}"/>'
    for index, peak in enumerate(peaks)
  )
  seconds = len(waveform) / SAMPLE_RATE
  data = base64.b64encode(content).decode()
  return (
    f'<span class="sound" title="{seconds:.1f} s"><button aria-label="play">&#9654;</button>'
    f'<svg width="{2 * _BARS}" height="22">{shape}</svg>'
    f'<audio preload="none" src="data:audio/flac;base64,{data}"></audio></span>'
  )


def image(path: Path) -> str:
  """Returns a PNG file inside the page."""
  return f'<img alt="" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'


def _cell(share: float, count: int, *, right: bool) -> str:
  color = "28,138,85" if right else "194,69,45"
  ink = "#fff" if share > 0.55 else "#1d2433"
  text = f"{100 * share:.0f} %" if count else ""
  return f'<td style="background:rgba({color},{0.06 + 0.8 * share:.2f});color:{ink}" title="{count}">{text}</td>'


def _running_mean(values: np.ndarray) -> np.ndarray:
  """Returns the mean of each value and its neighbours, a twenty-fifth of the curve on either side."""
  reach = len(values) // 25
  sums = np.concatenate([[0.0], np.cumsum(values)])
  places = np.arange(len(values))
  ends, starts = np.minimum(places + reach + 1, len(values)), np.maximum(places - reach, 0)
  return (sums[ends] - sums[starts]) / (ends - starts)


def _path(across: np.ndarray, down: np.ndarray) -> str:
  return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))


def _ticks(low: float, high: float) -> list[float]:
  raw = (high - low) / 5
  size = 10 ** math.floor(math.log10(max(raw, 1e-9)))
  step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
  return [step * index for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _level(value: float, low: float, high: float) -> str:
  y = _TOP + (high - value) / max(high - low, 1e-9) * (_HEIGHT - _TOP - _BOTTOM)
  return (
    f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#eef1f5"/>'
    f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
  )
