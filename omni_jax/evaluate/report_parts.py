"""Sections of the report about results: goals, samples to look at and play, styles, emotions, all figures."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from omni_jax.core.styles import EMOTIONS, GENDERS, PITCHES, Style
from omni_jax.evaluate import report_charts
from omni_jax.evaluate.comparison import compared, title_of, told
from omni_jax.evaluate.table import goal_text, shown

Sample = Mapping[str, Any]

TASK_TITLES = {
  "tokenizer": "Speech tokenizer: what the units keep",
  "recognition": "Recognition: speech to text",
  "images": "Written questions about images",
  "spoken_images": "Spoken questions about images",
  "dialogue": "Spoken dialogue",
  "emotion_heard": "The user's emotion is heard",
  "style": "Style asked against style spoken",
  "synthesis": "Synthesis, by an independent recogniser (pocketsphinx)",
  "timings": "Waiting times",
}
_SHOWN_PER_TASK = 6


def goals(results: Mapping[str, Any]) -> str:
  """Returns a tile for each figure that has a goal."""
  rows = [row for row in results["figures"] if "goal" in row]
  missing = results["not_run"]
  note = f'<p class="note">Not evaluated in this run: {escape(", ".join(missing))}.</p>' if missing else ""
  for task, reason in results.get("skipped", {}).items():
    note += f'<p class="note">{escape(TASK_TITLES[task])}: left out, {escape(reason)}.</p>'
  if not rows:
    return note
  reached = sum(row["reached"] is True for row in rows)
  tiles = "".join(_tile(row) for row in rows)
  return f'<p>{reached} of {len(rows)} goals reached.</p><div class="tiles">{tiles}</div>{note}'


def figures(results: Mapping[str, Any]) -> str:
  """Returns a table for each task: value, interval, samples, baselines, goal."""
  tasks: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
  for row in results["figures"]:
    tasks[row["task"]].append(row)
  legend = (
    '<p class="note">Strips run from 0 to 100 %: dot = result, band = 95 % interval, orange ticks = the baselines '
    "beside it. WER, CER, PER: error rates of words, characters, phones (lower is better).</p>"
  )
  return legend + "".join(f"<h3>{escape(TASK_TITLES[task])}</h3>{_table(rows)}" for task, rows in tasks.items())


def side_by_side(results: Mapping[str, Mapping[str, Any]]) -> str:
  """Returns the same figures of every system that was evaluated, one column each."""
  head = "".join(f"<th>{escape(title_of(system, own))}</th>" for system, own in results.items())
  rows = ""
  for name, entries in compared(results).items():
    cells = "".join(f"<td>{escape(told(entries[one])) if one in entries else ''}</td>" for one in results)
    rows += f"<tr><td>{escape(name)}</td>{cells}</tr>"
  note = (
    '<p class="note">The same samples for all, but for times: a system that sees is timed on questions about images, '
    "the others on questions without. In brackets the 95 % interval and the number of samples. A cascade recognises, "
    "answers in writing and reads the answer aloud, one after the other.</p>"
  )
  return f'<div class="scroll"><table><tr><th>figure</th>{head}</tr>{rows}</table></div>{note}'


def exchanges(images: Sequence[Sample], dialogues: Sequence[Sample], *, folder: Path) -> str:
  """Returns cards of spoken questions about images and of spoken dialogues."""
  parts = []
  for title, samples in (("Spoken questions about an image", images), ("Spoken dialogue", dialogues)):
    cards = "".join(_card(sample, folder) for sample in samples if sample.get("question_sound"))
    if cards:
      parts.append(f'<h3>{title}</h3><div class="cards">{cards}</div>')
  note = '<p class="note">The first test samples as they come, right or wrong; nothing is picked.</p>'
  return note + "".join(parts) if parts else ""


def styles(samples: Sequence[Sample], tables: Mapping[str, Any], *, folder: Path) -> str:
  """Returns the 24 styles to play, and the confusion matrices."""
  if not samples:
    return ""
  sounds = {sample["style"]: sample for sample in samples if sample.get("sound")}
  grids = "".join(_style_grid(gender, sounds, folder) for gender in GENDERS)
  names = [name for name in tables if name.startswith("confusion")]
  matrices = "".join(report_charts.matrix(_sentence(name), tables[name]) for name in names)
  fitted = "; ".join(
    f"{voice}: " + ", ".join(f"{name} {_numbers(value)}" for name, value in found.items())
    for voice, found in tables.get("thresholds", {}).items()
  )
  return (
    "<p>Each style spoken by text to speech, one held-out sentence each. Below every player: what is measured on the "
    "waveform (median pitch, pitch range, rate) and, in bold, the classes read off it.</p>"
    f'<div class="scroll">{grids}</div><div class="matrices">{matrices}</div>'
    f'<p class="note">Borders between classes, fitted on training recordings of the voice: {escape(fitted)}.</p>'
  )


def emotions(samples: Sequence[Sample], tables: Mapping[str, Any], *, folder: Path) -> str:
  """Returns the same words said in several emotions, with the answers, and the confusion matrix."""
  if not samples:
    return ""
  rows = "".join(_emotion_row(sample, folder) for sample in samples[:_SHOWN_PER_TASK])
  head = "<tr><th>user says</th><th>in emotion</th><th></th><th>answer</th><th></th><th>without heard style</th></tr>"
  matrices = "".join(report_charts.matrix(_sentence(name), table) for name, table in tables.items())
  return (
    "<p>The same words in different emotions: only the heard style tells the model which answer is right. The last "
    f'column is its answer when the heard style is taken away.</p><div class="scroll"><table>{head}{rows}</table></div>'
    f'<div class="matrices">{matrices}</div>'
  )


def voices(samples: Sequence[Sample], *, folder: Path) -> str:
  """Returns recordings beside their resynthesis and text to speech, with what pocketsphinx understood."""
  names = ("original", "resynthesised", "text to speech")
  rows = ""
  for sample in [sample for sample in samples if sample.get("sound of original")]:
    cells = "".join(
      f"<td>{_sound(folder, sample[f'sound of {name}'])}<div class=who>{escape(sample[name]) or '(nothing)'}</div></td>"
      for name in names
    )
    rows += f"<tr><td>{escape(sample['text'])}</td>{cells}</tr>"
  head = "".join(f"<th>{name}</th>" for name in ("words", *names))
  note = '<p class="note">Below each player: what pocketsphinx, which never saw this corpus, understood.</p>'
  return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>{note}' if rows else ""


def _tile(row: Mapping[str, Any]) -> str:
  state = {True: "reached", False: "missed", None: ""}[row["reached"]]
  value = shown(row["value"], row["measure"])
  interval = ""
  if row["value"] is not None:
    interval = f"{shown(row['low'], row['measure'])} to {shown(row['high'], row['measure'])}, n = {row['n']}"
  return (
    f'<div class="tile {state}"><b>{value}</b><span>{escape(row["figure"])}</span>'
    f'<span>{interval}</span><span class="goal {"good" if row["reached"] else "bad"}">{escape(goal_text(row))}'
    "</span></div>"
  )


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
  head = (
    '<tr><th>figure</th><th class="number">result</th><th></th><th class="number">95 % interval</th>'
    '<th class="number">n</th><th>beside</th><th>goal</th></tr>'
  )
  main = "".join(_row(row) for row in rows if not row.get("detail"))
  parts = "".join(_row(row) for row in rows if row.get("detail"))
  folded = (
    f'<details><summary>by kind of question</summary><div class="scroll"><table>{head}{parts}</table></div></details>'
    if parts
    else ""
  )
  return f'<div class="scroll"><table>{head}{main}</table></div>{folded}{_notes(rows)}'


def _row(row: Mapping[str, Any]) -> str:
  measure = row["measure"]
  interval = ""
  if row["value"] is not None:
    low, high = shown(row["low"], measure), shown(row["high"], measure)
    interval = f"{low.rpartition(' ')[0]} to {high}"
  chips = "".join(
    f'<span class="chip">{escape(name)} {shown(base["value"], measure)}</span>'
    for name, base in row["baselines"].items()
  )
  color = {True: "good", False: "bad", None: ""}[row.get("reached")]
  return (
    f'<tr><td class="name">{escape(row["figure"])} <span class="soft">{measure}</span></td>'
    f'<td class="number value">{shown(row["value"], measure)}</td><td>{report_charts.interval(row)}</td>'
    f'<td class="number">{interval}</td><td class="number">{row.get("n", "")}</td><td class="beside">{chips}</td>'
    f'<td class="verdict {color}">{escape(goal_text(row))}</td></tr>'
  )


def _notes(rows: Sequence[Mapping[str, Any]]) -> str:
  notes = list(dict.fromkeys(row["note"] for row in rows if row.get("note")))
  return f'<p class="note">{escape("; ".join(notes))}.</p>' if notes else ""


def _card(sample: Sample, folder: Path) -> str:
  picture = report_charts.image(folder / sample["image"]) if sample.get("image") else ""
  mark = '<span class="good">right</span>' if sample["right"] else '<span class="bad">wrong</span>'
  wanted = "" if sample["right"] else f'<div class="who">reference: {escape(sample["reference"])}</div>'
  problem = f'<div class="who bad">{escape(sample["problem"])}</div>' if sample["problem"] else ""
  asked = escape(sample.get("user_style", ""))
  return (
    f'<div class="card">{picture}<div class="words"><div class="who">user {asked}</div>'
    f"{_sound(folder, sample['question_sound'])}<div>{escape(sample['question'])}</div>"
    f'<div class="who">heard: {escape(sample["heard"]) or "(nothing)"}</div>'
    f'<div class="who" style="margin-top:10px">assistant {escape(sample["answer_style"])} &middot; {mark}</div>'
    f"{_sound(folder, sample['answer_sound'])}<div>{escape(sample['answer']) or '(nothing)'}</div>"
    f"{wanted}{problem}</div></div>"
  )


def _style_grid(gender: str, sounds: Mapping[str, Sample], folder: Path) -> str:
  head = "".join(f"<th>{emotion}</th>" for emotion in EMOTIONS)
  rows = ""
  for pitch in PITCHES:
    cells = ""
    for emotion in EMOTIONS:
      sample = sounds.get(str(Style(gender, emotion, pitch)))
      cells += f"<td>{_style_cell(sample, folder) if sample else ''}</td>"
    rows += f"<tr><th>{pitch} pitch</th>{cells}</tr>"
  return f"<h3>{gender}</h3><table><tr><th></th>{head}</tr>{rows}</table>"


def _style_cell(sample: Sample, folder: Path) -> str:
  measured, read = sample["measured"], sample["read"]
  asked = Style.parse(sample["style"])
  words = " ".join(
    f'<b class="{"good" if read[part] == getattr(asked, part) else "bad"}">{read[part]}</b>'
    for part in ("emotion", "pitch")
    if read
  )
  rate = sample["phones"] / max(measured["seconds"], 0.1)
  return (
    f"{_sound(folder, sample['sound'])}<div class='who'>{measured['f0_hz']:.0f} Hz, "
    f"{measured['f0_range_semitones']:.1f} st, {rate:.1f} phones/s<br>{words}</div>"
  )


def _emotion_row(sample: Sample, folder: Path) -> str:
  right = sample["named"] == sample["user_emotion"]
  return (
    f"<tr><td>{escape(sample['question'])}</td><td>{sample['user_emotion']}</td>"
    f"<td>{_sound(folder, sample.get('question_sound', ''))}</td>"
    f'<td class="{"good" if right else "bad"}">{escape(sample["answer"])}'
    f"<div class='who'>spoken {escape(sample['answer_style'])}</div></td>"
    f"<td>{_sound(folder, sample.get('answer_sound', ''))}</td>"
    f"<td class='soft'>{escape(sample['answer_without'])}</td></tr>"
  )


def _sound(folder: Path, name: str) -> str:
  return report_charts.sound(folder / name) if name else '<span class="who">no sound</span>'


def _numbers(value: Any) -> str:
  return " and ".join(map(str, value)) if isinstance(value, list) else str(value)


def _sentence(text: str) -> str:
  return text[:1].upper() + text[1:]
