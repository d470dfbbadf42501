"""From recorded speech to units and heard styles: what the language model is trained on.

Every turn with sound gets its units (25 a second, repetitions kept) and the style that the style encoder hears; in
training splits, turns of the answering voices also get how long each unit lasts, to 10 ms, for the vocoder to learn
from, and the sound itself is dropped; a test needs it. A split that was encoded by the same two models from the same
records is left as it is.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from omni_jax.checkpoint.card import read_card
from omni_jax.checkpoint.store import load_model, require_step
from omni_jax.core.errors import UserError
from omni_jax.core.files import write_whole
from omni_jax.core.styles import Style
from omni_jax.generate.speech_stages import load_tokenizer
from omni_jax.prepare.audio import SAMPLE_RATE, decode_audio
from omni_jax.prepare.reader import open_set
from omni_jax.prepare.schema import Example
from omni_jax.prepare.writer import read_splits, write_split
from omni_jax.speech.interface import SpeechTokenizer, StyleEncoder
from omni_jax.speech.lengths import LENGTHS_FILE, Recording, fit

_TOGETHER = 256  # records encoded at once; sorted by length, so little of them is padding
_TRAINING = "train"
_TIMES_PER_SECOND = 100  # `time_batch` tells durations to 10 ms


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodeConfig:
  """Which sets of a corpus are encoded, by which stages, and which voices get the durations of their units."""

  sets: tuple[str, ...]
  tokenizer: str = "tokenizer"
  style: str = "style"
  shards: int = 1
  timed_voices: tuple[str, ...] = ()


def encode_corpus(config: EncodeConfig, workdir: Path, *, say: Callable[[str], None] = print) -> Path:
  """Writes `workdir/units/<set>` for each set of `workdir/corpus` and returns `workdir/units`.

  Raises:
    UserError: a set or a stage is missing or damaged, or the disk refuses. Finished splits stay.
  """
  stages = workdir / "stages"
  wanted = [(name, split) for name in config.sets for split in _splits(workdir / "corpus" / name)]
  identities = {name: _identity(workdir / "corpus" / name, config, stages) for name in config.sets}
  missing = [pair for pair in wanted if not _is_encoded(workdir / "units", *pair, identities)]
  if not missing:
    say(f"units of {', '.join(config.sets)}: already encoded")
    _fit_lengths(config, workdir)
    return workdir / "units"
  tokenizer = load_tokenizer(workdir, stage=config.tokenizer)
  if tokenizer.num_codebooks != 1 or tokenizer.sample_rate != SAMPLE_RATE:
    raise UserError(
      f"{tokenizer.num_codebooks} units a frame, {tokenizer.sample_rate} Hz",
      where=stages / config.tokenizer,
      rule=f"records hold one row of units, of sound at {SAMPLE_RATE} Hz",
      remedy="choose a tokenizer with one codebook; SNAC's codes are printed by `omni hear --units`",
    )
  style_encoder = load_model(stages / config.style)[1]
  for name, split in missing:
    folder = workdir / "units" / name
    source = open_set(workdir / "corpus" / name, split)
    training = split == _TRAINING
    timed_voices = config.timed_voices if training else ()
    examples = encode_examples(source, tokenizer, style_encoder, keep_audio=not training, timed_voices=timed_voices)
    count = write_split(folder, split, examples, shards=config.shards)
    _remember(folder, split, identities[name])
    say(f"{name}/{split}: {count} records encoded")
  _fit_lengths(config, workdir)
  return workdir / "units"


def encode_examples(
  source: Sequence[Example] | Any,
  tokenizer: SpeechTokenizer,
  style_encoder: StyleEncoder,
  *,
  keep_audio: bool,
  timed_voices: tuple[str, ...] = (),
) -> Iterator[Example]:
  """Yields the records of `source` in order, turns with sound with `units` and `heard` filled in.

  Turns of `timed_voices` have `unit_frames` too.
  """
  for start in range(0, len(source), _TOGETHER):
    examples = [source[index] for index in range(start, min(start + _TOGETHER, len(source)))]
    spoken = [turn for example in examples for turn in example.turns if turn.audio]
    waveforms = [decode_audio(turn.audio) for turn in spoken]
    encoded = tokenizer.encode_batch(waveforms)
    timed = [row for row, turn in enumerate(spoken) if turn.voice in timed_voices]
    frames = iter(tokenizer.time_batch([waveforms[row] for row in timed], [encoded[row] for row in timed]))
    units = iter(encoded)
    heard = iter(style_encoder.hear_batch(waveforms))
    for example in examples:
      turns = []
      for turn in example.turns:
        if turn.audio:
          lasting = next(frames) if turn.voice in timed_voices else ()
          audio = turn.audio if keep_audio else b""
          changes = {"units": next(units), "unit_frames": lasting, "heard": str(next(heard)), "audio": audio}
          turn = dataclasses.replace(turn, **changes)
        turns.append(turn)
      yield dataclasses.replace(example, turns=tuple(turns))


def _fit_lengths(config: EncodeConfig, workdir: Path) -> None:
  """Writes how long texts last in the voices that are timed, if there is enough of them to tell."""
  encoded = sorted(folder for folder in (workdir / "units").iterdir() if _TRAINING in read_splits(folder))
  sources = [open_set(folder, _TRAINING) for folder in encoded]
  recordings = (
    Recording(turn.text, Style.parse(turn.style), sum(turn.unit_frames) / _TIMES_PER_SECOND)
    for source in sources
    for index in range(len(source))
    for turn in source[index].turns
    if turn.voice in config.timed_voices
  )
  path, found = workdir / "units" / LENGTHS_FILE, fit(recordings)
  if found is None:
    path.unlink(missing_ok=True)
  else:
    found.save(path)


def _splits(folder: Path) -> list[str]:
  splits = sorted(read_splits(folder))
  if not splits:
    raise UserError("no records", where=folder, rule="the set was made", remedy="run `omni corpus` first")
  return splits


def _identity(folder: Path, config: EncodeConfig, stages: Path) -> dict[str, Any]:
  """Returns what the units of a set depend on: the records, both trained models, and which voices are timed."""

  def stage_of(name: str) -> dict[str, Any]:
    return {"run": read_card(stages / name)["fingerprint"], "step": require_step(stages / name)}

  splits = {
    name: {"bytes": entry.get("numBytes"), "lengths": entry["shardLengths"], "written": _written(folder, name)}
    for name, entry in read_splits(folder).items()
  }
  stages_used = {"tokenizer": stage_of(config.tokenizer), "style": stage_of(config.style)}
  return {**stages_used, "timed_voices": list(config.timed_voices), "splits": splits}


def _written(folder: Path, split: str) -> list[list[int]]:
  return [[path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(folder.glob(f"{folder.name}-{split}.*"))]


def _is_encoded(units: Path, name: str, split: str, identities: dict[str, dict[str, Any]]) -> bool:
  path = units / name / "encoded.json"
  if split not in read_splits(units / name) or not path.is_file():
    return False
  return json.loads(path.read_text()).get(split) == _of_split(identities[name], split)


def _remember(folder: Path, split: str, identity: dict[str, Any]) -> None:
  path = folder / "encoded.json"
  known = json.loads(path.read_text()) if path.is_file() else {}
  write_whole(path, json.dumps({**known, split: _of_split(identity, split)}, indent=1))


def _of_split(identity: dict[str, Any], split: str) -> dict[str, Any]:
  return {**identity, "splits": identity["splits"][split]}
