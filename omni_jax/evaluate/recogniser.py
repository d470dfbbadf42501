"""An independent recogniser for synthesised speech: pocketsphinx with the English model in its package.

It has never seen this project's corpus, and its language model is open, so it is a severe and honest listener: the
original flite recordings score about 20 % word errors. It does not understand espeak-ng at all; without flite,
synthesis is therefore 'not measurable' and no figure is printed.
"""

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from omni_jax.core.errors import UserError

SAMPLE_RATE = 16000
_SILENCE_SAMPLES = SAMPLE_RATE // 10
_decoders: list = []


def transcribe(
  waveforms: Sequence[np.ndarray], *, workers: int, advance: Callable[[], object] = lambda: None
) -> list[str]:
  """Returns what pocketsphinx understands of each 16 kHz waveform; every utterance starts from the same state.

  Args:
    waveforms: samples in [-1, 1]; silence and empty waveforms give an empty transcript.
    workers: processes; each loads the model once (about a second).
    advance: called once for each finished utterance.
  """
  _require_pocketsphinx()
  if workers <= 1 or len(waveforms) < 4:
    return list(_advancing(map(_transcribe_one, waveforms), advance))
  # Not forked: this process holds JAX's threads.
  context = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(min(workers, len(waveforms)), mp_context=context) as pool:
    return list(_advancing(pool.map(_transcribe_one, waveforms, chunksize=2), advance))


def _advancing(texts: Iterator[str], advance: Callable[[], object]) -> Iterator[str]:
  for text in texts:
    advance()
    yield text


def _transcribe_one(waveform: np.ndarray) -> str:
  if len(waveform) < _SILENCE_SAMPLES or not np.any(waveform):
    return ""
  decoder = _decoder()
  decoder.reinit_feat()  # else the running cepstral mean of the last utterance leaks in, and order changes the words
  silence = np.zeros(_SILENCE_SAMPLES, np.int16)
  samples = (np.clip(waveform, -1, 1) * 32767).astype(np.int16)
  decoder.start_utt()
  decoder.process_raw(np.concatenate([silence, samples, silence]).tobytes(), full_utt=True)
  decoder.end_utt()
  found = decoder.hyp()
  return found.hypstr if found else ""


def _decoder():
  if not _decoders:
    import pocketsphinx

    _decoders.append(pocketsphinx.Decoder(loglevel="FATAL", cmn="batch"))
  return _decoders[0]


def _require_pocketsphinx() -> None:
  try:
    import pocketsphinx  # noqa: F401
  except ImportError as error:
    raise UserError(
      f"pocketsphinx cannot be imported ({error})",
      where="omni evaluate, synthesis",
      rule="spoken output is judged by an independent recogniser",
      remedy="pip install 'omni_jax[eval]', or leave the task out with --tasks",
    ) from error
