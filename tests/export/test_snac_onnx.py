"""The decoder of SNAC in onnxruntime, noise included: equal to JAX whole and in pieces, through `runtime/speak.py`."""

import numpy as np
import pytest

from omni_jax.export.programs import TOLERANCE
from omni_jax.export.vocoder import export_onnx
from tests.runtime.speakers import load_runtime
from tests.speech.test_snac import DENSE, codec, codes_of


@pytest.mark.parametrize(
  "options", [{}, pytest.param({"config": DENSE}, marks=pytest.mark.slow)], ids=["with noise", "dense"]
)
def test_it_sounds_the_same_whole_and_in_pieces(options, tmp_path):
  model, codes = codec(**options), codes_of(9)
  report = export_onnx(model, tmp_path / "codec")
  assert [path.name for path in report.paths] == ["codec.sound.onnx"] and report.differences["waveform"] <= TOLERANCE
  voice, ours = load_runtime().Voice(str(tmp_path / "codec")), model.decode(codes)
  written = " ".join(map(str, codes.reshape(-1)))
  (theirs,) = voice.pieces(written)
  assert theirs.shape == ours.shape and np.abs(ours).max() > 0.01
  np.testing.assert_allclose(theirs, ours, atol=1e-5)
  for frames in (1, 2, 4):
    pieces = list(voice.pieces(codes.reshape(-1), frames=frames))
    assert len(pieces) == -(-9 // frames)
    np.testing.assert_allclose(np.concatenate(pieces), ours, atol=1e-5)
  with pytest.raises(ValueError, match=r"8 units, .*: no rows of 7 whole numbers"):
    voice.pieces(codes.reshape(-1)[:8])
