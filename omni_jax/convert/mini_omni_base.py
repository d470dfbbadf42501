"""A released language model, or a released Mini-Omni, and a Whisper -> a stage from which training starts.

    rows of the base | 64 new rows, five of them marks | new rows of codes, layer after layer
    '------------ text table -------------------------' '------- table of codes --------'

Any decoder that `convert.language` reads will do: "any language model can talk". The two adapters are then new; a
released Mini-Omni brings its own, but for the adapter for speech, which it lacks.
"""

import dataclasses
from pathlib import Path

import jax

from omni_jax.checkpoint.card import make_card, write_card
from omni_jax.checkpoint.store import Store
from omni_jax.convert.folders import read_json
from omni_jax.convert.language import NewRows, import_language
from omni_jax.convert.mini_omni import WEIGHTS, read_mini_omni
from omni_jax.convert.shards import Folder
from omni_jax.convert.stage import Imported, new_stage
from omni_jax.convert.table import import_leaves
from omni_jax.convert.whisper import encoder_tensors, whisper_rules
from omni_jax.core import trees
from omni_jax.core.errors import UserError
from omni_jax.models.mini_omni import MiniOmniConfig


def import_mini_omni_base(
  config: MiniOmniConfig, workdir: Path, *, name: str, language: Path, hearing: Path, draw: str = "mean", seed: int = 0
) -> tuple[Path, tuple[str, ...]]:
  """Writes step 0 of the stage `name`; returns its folder and what is in it.

  Args:
    config: of the model, its layout made for the language model's tokenizer.
    workdir: the working folder.
    name: of the stage, which must be new.
    language: folder of a stock language model, or with the two files of a Mini-Omni.
    hearing: folder of a Whisper in transformers' format.
    draw: of new rows, one of `checkpoint.new_rows.DRAWS`.
    seed: of whatever is new.

  Raises:
    UserError: the stage exists, a folder is of another model than the config; nothing is written then.
  """
  folder = new_stage(workdir, name=name)
  drawn = trees.flatten(jax.jit(lambda: config.make(key=jax.random.key(seed)))())
  released = (language / WEIGHTS).is_file()
  read = _released(config, language) if released else _language(config, language, draw=draw, seed=seed)
  read |= _hearing(config, hearing)
  params = drawn | read
  store = Store(folder, keep=1)
  store.save(0, params=params, moments=None, position={"step": 0})
  store.close()
  run = Imported(name=name, model=config, source=language.resolve(), draw=draw)
  write_card(folder, make_card(run, workdir=workdir, ignored=("source", "vision"), starts=()))
  new = sorted({path.partition(".")[0] for path in set(params) - set(read)})
  return folder, (f"read: {len(read)} parameters", f"new: {', '.join(new) or 'nothing'}")


def _released(config: MiniOmniConfig, folder: Path) -> dict[str, jax.Array]:
  model = read_mini_omni(folder)
  decoder = dataclasses.replace(model.config.decoder, remat=config.decoder.remat)
  same = {"hearing": config.hearing, "decoder": decoder}
  if not model.config.speaker_depth:
    same["speaker_depth"] = config.speaker_depth
  if dataclasses.replace(model.config, **same) != config:
    raise UserError(
      f"{model.config}",
      where=folder,
      rule=f"the sizes of the config: {config}",
      remedy="choose the config of this model",
    )
  return trees.flatten(model)


def _language(config: MiniOmniConfig, folder: Path, *, draw: str, seed: int) -> dict[str, jax.Array]:
  rows = read_json(folder / "config.json").get("vocab_size", 0)
  layout = config.layout
  if not isinstance(rows, int) or not 0 < rows <= layout.num_pieces:
    raise UserError(
      f"vocab_size {rows}",
      where=folder,
      rule=f"the layout has room for {layout.num_pieces} text ids before its marks",
      remedy="make the config for this language model (`MiniOmniLayout.num_pieces`)",
    )
  new = NewRows(number=layout.text_size + layout.audio_size - rows, draw=draw, seed=seed)
  decoder = import_language(folder, extra_vocab_size=layout.audio_size, new=new)
  if dataclasses.replace(decoder.config, remat=config.decoder.remat) != config.decoder:
    raise UserError(
      f"{decoder.config}",
      where=folder,
      rule=f"the decoder of the config: {config.decoder}",
      remedy="choose the config of this language model",
    )
  return {f"decoder.{path}": leaf for path, leaf in trees.flatten(decoder).items()}


def _hearing(config: MiniOmniConfig, folder: Path) -> dict[str, jax.Array]:
  if config.hearing is None:
    raise UserError(
      "a Whisper for a model that does not hear",
      where=folder,
      rule="the config has `hearing`",
      remedy="give the config its encoder of speech",
    )
  abstract = jax.eval_shape(lambda: config.hearing.make(key=jax.random.key(0)))
  shapes = {path: tuple(leaf.shape) for path, leaf in trees.flatten(abstract).items()}
  leaves = import_leaves(whisper_rules(), encoder_tensors(Folder(folder)), shapes=shapes)
  return {f"hearing.{path}": leaf for path, leaf in leaves.items()}
