"""Speech tokenizers side by side: EMOVA's units against k-means on HuBERT, with as many classes.

Source: EMOVA (arXiv 2409.18042, section 3.1: semantic-acoustic disentangled units against entangled ones).
Commands, after the quickstart:
  omni corpus --config configs/emova/corpus.py:additions --workdir runs/tiny
  omni train --config configs/emova/spiral.py:tiny --workdir runs/tiny
  omni centres --config configs/speechgpt/centres.py:cepstra_tiny --workdir runs/tiny
  omni train --config configs/speechgpt/hubert.py:tiny --workdir runs/tiny
  omni centres --config configs/speechgpt/centres.py:units_4096 --workdir runs/tiny
  omni centres --config configs/speechgpt/centres.py:units_tiny --workdir runs/tiny
  omni compare --config configs/emova/compare.py:tiny --workdir runs/tiny
"""

from omni_jax.evaluate.unit_tasks import Comparison


def tiny() -> Comparison:
  """Returns EMOVA's tokenizer and the journey's own beside k-means of as many classes, and of fewer."""
  return Comparison(tokenizers=("spiral", "tokenizer", "kmeans_4096", "kmeans_tokenizer"))


def mandarin() -> Comparison:
  """Returns the phone errors on Mandarin."""
  return Comparison(tokenizers=("spiral_mandarin",), speech="mandarin", phones="mandarin/phones.json", styles="")
