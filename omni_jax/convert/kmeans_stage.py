"""A HuBERT and the centres of its k-means -> a stage of a working folder that `omni encode` reads units by."""

from pathlib import Path

import numpy as np

from omni_jax.checkpoint.card import make_card, write_card
from omni_jax.checkpoint.store import Store
from omni_jax.convert.hubert import HubertNames, import_kmeans_tokenizer
from omni_jax.convert.shards import Folder
from omni_jax.convert.stage import Imported, new_stage
from omni_jax.speech.kmeans import read_centres
from omni_jax.speech.kmeans_tokenizer import KMeansTokenizerConfig


def import_kmeans_stage(
  config: KMeansTokenizerConfig, workdir: Path, *, name: str, weights: Path, names: HubertNames, centres: Path
) -> Path:
  """Writes the tokenizer as step 0 of the stage `name` and returns the stage's folder.

  Args:
    config: of the tokenizer, for example `SPEECH_GPT_TOKENIZER`.
    workdir: the working folder.
    name: of the stage, which must be new.
    weights: a folder with the HuBERT as safetensors, see `convert.hubert` for fairseq's.
    names: whose names these have.
    centres: an .npy or .npz, see `speech.kmeans.read_centres`.

  Raises:
    UserError: the stage exists, or a file is missing, damaged or of another model; nothing is written then.
  """
  folder = new_stage(workdir, name=name)
  tensors = Folder(weights)
  # Half-precision files are read wide: centres are float32, and nearest ones must not change.
  wide = {one: np.asarray(tensors[one], np.float32) for one in tensors}
  params = import_kmeans_tokenizer(config, wide, names=names, centres=read_centres(centres))
  run = Imported(name=name, model=config, source=weights.resolve())
  store = Store(folder, keep=1)
  store.save(0, params=params, moments=None, position={"step": 0})
  store.close()
  write_card(folder, make_card(run, workdir=workdir, ignored=("source",), starts=()))
  return folder
