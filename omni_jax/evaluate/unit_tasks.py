"""`omni compare`: speech tokenizers side by side, by what their units keep of phones and let slip of style.

EMOVA's own comparison (arXiv 2409.18042, section 3.1): units that were trained to be read as phones through a small
codebook are held against k-means on self-supervised features, with as many classes. For every tokenizer:

    phones   read from the units by one small network, the same for all (`unit_probes`); and by its own reader
    style    the same words in all 24 styles: distance of the units between styles beside that between sentences,
             and what the same small network can tell of gender, emotion and pitch

beside what the style encoder hears of the same recordings. Each tokenizer's results are kept as soon as they are done.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from omni_jax.batches.utterances import load_phones, phone_ids
from omni_jax.checkpoint.card import read_card
from omni_jax.checkpoint.store import load_model, require_step
from omni_jax.core.config import to_json
from omni_jax.core.errors import UserError
from omni_jax.core.styles import ALL_STYLES, EMOTIONS, GENDERS, PITCHES, Style
from omni_jax.evaluate import baselines, scores
from omni_jax.evaluate.context import sound, style_of
from omni_jax.evaluate.figures import Figure, write_json
from omni_jax.evaluate.scores import Score
from omni_jax.evaluate.system import Progress, named_phones
from omni_jax.evaluate.unit_probes import ProbeConfig, read_phones, tell_parts
from omni_jax.evaluate.unit_scores import PARTS, agreement, unit_table
from omni_jax.prepare.reader import open_set
from omni_jax.prepare.schema import Turn
from omni_jax.prepare.writer import read_splits
from omni_jax.tokens.units import reduce_units

_SIZES = (len(GENDERS), len(EMOTIONS), len(PITCHES))
_TOGETHER = 128  # recordings encoded at once
_SPLITS = {"test": "seen voices", "test_voice": "a voice never heard"}
_MOST_PHONES = 1 << 16
FOLDER = "units"  # below `<workdir>/evaluation`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
  """Which tokenizers are compared, on which speech.

  Attributes:
    tokenizers: stages, in the order of the columns.
    speech: the set of the corpus whose `train` split teaches the probes and whose test splits are read.
    phones: list of its phone symbols, below the corpus.
    styles: the set whose `test` split holds the same words in all 24 styles; empty: nothing is said of style.
    style_encoder: the stage that hears the style of recordings.
    training: recordings that probes learn from, at most.
    utterances: of each test split, at most.
    probe: of phones, and of style.
    seed: of the choice of recordings.
  """

  tokenizers: tuple[str, ...]
  speech: str = "speech"
  phones: str = "phones.json"
  styles: str = "styles"
  style_encoder: str = "style"
  training: int = 1500
  utterances: int = 150
  probe: ProbeConfig = dataclasses.field(default_factory=ProbeConfig)
  seed: int = 0

  def __post_init__(self):
    if not self.tokenizers or len(set(self.tokenizers)) < len(self.tokenizers):
      raise UserError(
        f"tokenizers {', '.join(self.tokenizers) or 'none'}",
        where="Comparison",
        rule="at least one stage, each once",
        remedy="name the stages of the tokenizers to compare",
      )


class Recordings(NamedTuple):
  """What is encoded: the turns that teach, those of each test split, and the same words in all styles, [S * 24]."""

  training: list[Turn]
  test: dict[str, list[Turn]]
  styles: list[Turn]


class _Encoded(NamedTuple):
  """The units of `Recordings`, repetitions kept."""

  training: list[np.ndarray]
  test: dict[str, list[np.ndarray]]
  styles: list[np.ndarray]


def compare(config: Comparison, workdir: Path, *, progress: Progress, overwrite: bool = False) -> dict[str, Any]:
  """Returns the results, which lie in `<workdir>/evaluation/units/`, one file for each tokenizer.

  Args:
    config: what is compared.
    workdir: holds the corpus and the trained stages.
    progress: shows how far each piece of work is.
    overwrite: compute what is up to date again.

  Raises:
    UserError: a stage, a set or the list of phones is missing, or the styles set lacks a style of a sentence.
  """
  identities = {name: _identity(config, workdir, name) for name in config.tokenizers}
  folder = workdir / "evaluation" / FOLDER
  stored = {name: _stored(folder / f"{name}.json", identities[name], overwrite) for name in config.tokenizers}
  missing = [name for name, found in stored.items() if found is None]
  if missing:
    symbols = load_phones(workdir / "corpus" / config.phones, limit=_MOST_PHONES)
    recordings = _recordings(config, workdir)
    heard = _waveform_styles(recordings.styles, workdir / "stages" / config.style_encoder, progress)
    for name in missing:
      figures, table = _compared(config, workdir / "stages" / name, recordings, symbols, heard, progress)
      rows = [figure.to_json(name) for figure in figures]
      stored[name] = {"fingerprint": identities[name], "figures": rows, "table": table}
      write_json(folder / f"{name}.json", stored[name])
  return {"settings": to_json(config), "tokenizers": {name: stored[name] for name in config.tokenizers}}


def comparison_table(results: Mapping[str, Any]) -> str:
  """Returns a Markdown table: a row for each figure, a column for each tokenizer, intervals and n in the cells."""
  columns = results["tokenizers"]
  names = list(columns)
  lines = [f"| | {' | '.join(names)} | beside |", "|---" * (len(names) + 2) + "|"]
  for place, row in enumerate(columns[names[0]]["figures"]):
    cells = [_cell(columns[name]["figures"][place]) for name in names]
    beside = ", ".join(f"{name} {100 * base['value']:.1f} %" for name, base in row["baselines"].items())
    lines.append(f"| {row['figure']} ({row['measure']}) | {' | '.join(cells)} | {beside} |")
  for measure in columns[names[0]]["table"]:
    numbers = [f"{columns[name]['table'][measure]:g}" for name in names]
    lines.append(f"| {measure} | {' | '.join(numbers)} | |")
  return "\n".join(lines)


def _cell(row: Mapping[str, Any]) -> str:
  if row["value"] is None:
    return "-"
  return f"{100 * row['value']:.1f} % ({100 * row['low']:.1f} to {100 * row['high']:.1f}, {row['n']})"


def _compared(
  config: Comparison,
  stage: Path,
  recordings: Recordings,
  symbols: dict[str, int],
  heard: Sequence[Style],
  progress: Progress,
) -> tuple[list[Figure], dict[str, float]]:
  """Returns the figures of one tokenizer, and how it uses its codebook."""
  tokenizer = load_model(stage)[1]
  advance = progress(
    f"units of {stage.name}", sum(map(len, (recordings.training, *recordings.test.values(), recordings.styles)))
  )
  encoded = _Encoded(
    training=_encode(tokenizer, recordings.training, advance),
    test={split: _encode(tokenizer, turns, advance) for split, turns in recordings.test.items()},
    styles=_encode(tokenizer, recordings.styles, advance),
  )
  size = int(tokenizer.codebook_size)
  figures = _phone_figures(config, recordings, encoded, symbols=symbols, codebook_size=size)
  figures += _own_reading(tokenizer, recordings, list(symbols))
  if recordings.styles:
    figures += _distance_figures(recordings, encoded)
    figures += _style_figures(config, recordings, encoded, heard=heard, codebook_size=size)
  units = encoded.test["test"]
  seconds = sum(len(row) for row in units) / tokenizer.frame_rate
  kept = sum(len(reduce_units(row)[0]) for row in units)
  return figures, {"classes": size, **unit_table(units), "reduced units a second": round(kept / seconds, 1)}


def _phone_figures(
  config: Comparison, recordings: Recordings, encoded: _Encoded, *, symbols: dict[str, int], codebook_size: int
) -> list[Figure]:
  names = list(symbols)
  training = [phone_ids(turn, symbols) for turn in recordings.training]
  read = read_phones(
    config.probe,
    codebook_size=codebook_size,
    units=_reduced(encoded.training),
    phones=training,
    num_phones=len(symbols),
    test=_reduced([row for rows in encoded.test.values() for row in rows]),
  )
  common = baselines.most_common([turn.phones for turn in recordings.training]).split()
  figures, rest = [], iter(named_phones(read, names))
  for split, turns in recordings.test.items():
    references = [turn.phones.split() for turn in turns]
    figures.append(
      Figure(
        name=f"phones read from reduced units by a small network, {_SPLITS[split]}",
        measure="PER",
        score=scores.phone_errors(references, [next(rest) for _ in turns]).score,
        baselines={
          "chance": baselines.chance_errors(references, measure=scores.phone_errors).score,
          "majority": scores.phone_errors(references, [common] * len(references)).score,
        },
      )
    )
  return figures


def _own_reading(tokenizer: Any, recordings: Recordings, symbols: Sequence[str]) -> list[Figure]:
  figures = []
  for split, turns in recordings.test.items():
    score, note = None, "it has no reader of its own"
    if hasattr(tokenizer, "phones_batch"):
      read = named_phones(tokenizer.phones_batch([sound(turn) for turn in turns]), symbols)
      score, note = scores.phone_errors([turn.phones.split() for turn in turns], read).score, ""
    figures.append(
      Figure(name=f"phones read by the tokenizer itself, {_SPLITS[split]}", measure="PER", score=score, note=note)
    )
  return figures


def _distance_figures(recordings: Recordings, encoded: _Encoded) -> list[Figure]:
  wide = len(ALL_STYLES)
  reduced = _reduced(encoded.styles)
  grid = [reduced[start : start + wide] for start in range(0, len(reduced), wide)]
  found = agreement(grid, ALL_STYLES)
  ones = np.ones(len(grid))

  def figure(name: str, over: np.ndarray, under: np.ndarray = ones) -> Figure:
    note = "each sample is a sentence, said in all 24 styles"
    return Figure(name=name, measure="distance", score=scores.ratio(over, under), note=note)

  figures = [
    figure("same words, any two styles", found.styles),
    figure("other words, same style", found.sentences),
    figure("the first over the second: 0 for units without style", found.styles, found.sentences),
  ]
  return figures + [figure(f"same words, only the {part} differs", rows) for part, rows in found.only.items()]


def _style_figures(
  config: Comparison, recordings: Recordings, encoded: _Encoded, *, heard: Sequence[Style], codebook_size: int
) -> list[Figure]:
  labels = np.array([style_of(turn).indices for turn in recordings.training])
  told = tell_parts(
    config.probe,
    codebook_size=codebook_size,
    units=_reduced(encoded.training),
    labels=labels,
    sizes=_SIZES,
    test=_reduced(encoded.styles),
  )
  truth = np.array([style_of(turn).indices for turn in recordings.styles])
  waveform = np.array([style.indices for style in heard])
  return [
    Figure(
      name=f"{part} told from reduced units by a small network",
      measure="accuracy",
      score=_by_sentence(told[:, place] == truth[:, place]),
      baselines={
        "chance": 1 / _SIZES[place],
        "style encoder on the waveform": _by_sentence(waveform[:, place] == truth[:, place]),
      },
      note="each sample is a sentence, said in all 24 styles",
    )
    for place, part in enumerate(PARTS)
  ]


def _by_sentence(right: np.ndarray) -> Score:
  """Returns the accuracy, sentences drawn again as a whole, since the recordings of one are much alike."""
  sums = right.reshape(-1, len(ALL_STYLES)).sum(1)
  return scores.ratio(sums, np.full(len(sums), len(ALL_STYLES)))


def _recordings(config: Comparison, workdir: Path) -> Recordings:
  folder = workdir / "corpus" / config.speech
  splits = [split for split in _SPLITS if split == "test" or split in read_splits(folder)]
  return Recordings(
    training=_turns(folder, "train", limit=config.training, seed=config.seed),
    test={split: _turns(folder, split, limit=config.utterances, seed=config.seed) for split in splits},
    styles=_grid(workdir / "corpus" / config.styles) if config.styles else [],
  )


def _turns(folder: Path, split: str, *, limit: int, seed: int) -> list[Turn]:
  """Returns the first turns of up to `limit` records, drawn evenly and kept in order."""
  source = open_set(folder, split)
  chosen = np.sort(np.random.default_rng(seed).permutation(len(source))[:limit])
  return [source[int(place)].turns[0] for place in chosen]


def _grid(folder: Path) -> list[Turn]:
  """Returns the turns of a set sentence by sentence, each in all styles in their order."""
  turns = [turn for example in open_set(folder, "test") for turn in example.turns]
  wide = len(ALL_STYLES)
  for start in range(0, len(turns), wide):
    group = turns[start : start + wide]
    if len({turn.text for turn in group}) != 1 or [style_of(turn) for turn in group] != list(ALL_STYLES):
      raise UserError(
        f"record {start} begins no group of {wide} recordings of one sentence in all styles",
        where=folder,
        rule="a set of styles holds each sentence in all styles, in their order",
        remedy="make it by `omni corpus --config configs/emova/corpus.py:additions`",
      )
  return turns


def _waveform_styles(turns: Sequence[Turn], stage: Path, progress: Progress) -> list[Style]:
  if not turns:
    return []
  encoder, advance = load_model(stage)[1], progress("styles heard", len(turns))
  heard: list[Style] = []
  for start in range(0, len(turns), _TOGETHER):
    part = turns[start : start + _TOGETHER]
    heard += encoder.hear_batch([sound(turn) for turn in part])
    advance(len(part))
  return heard


def _encode(tokenizer: Any, turns: Sequence[Turn], advance: Any) -> list[np.ndarray]:
  units: list[np.ndarray] = []
  for start in range(0, len(turns), _TOGETHER):
    part = turns[start : start + _TOGETHER]
    units += tokenizer.encode_batch([sound(turn) for turn in part])
    advance(len(part))
  return units


def _reduced(units: Sequence[np.ndarray]) -> list[np.ndarray]:
  return [reduce_units(row)[0] for row in units]


def _identity(config: Comparison, workdir: Path, name: str) -> str:
  """Returns a fingerprint of the settings, the tokenizer, the style encoder and the sets; other tokenizers aside."""
  stages = [name, *([config.style_encoder] if config.styles else [])]
  parts: dict[str, Any] = {"settings": to_json(dataclasses.replace(config, tokenizers=(name,)))}
  for stage in stages:
    folder = workdir / "stages" / stage
    parts[stage] = [read_card(folder)["fingerprint"], require_step(folder)]
  for set_name in (config.speech, config.styles):
    for path in sorted((workdir / "corpus" / set_name).glob("*.json")) if set_name else ():
      parts[f"{set_name}/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
  return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _stored(path: Path, identity: str, overwrite: bool) -> dict[str, Any] | None:
  """Returns what was computed before, None if that is something else or nothing."""
  if overwrite or not path.is_file():
    return None
  found = json.loads(path.read_text())
  return found if found["fingerprint"] == identity else None
