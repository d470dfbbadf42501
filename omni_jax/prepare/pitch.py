"""The fundamental frequency of speech, fast enough (hundreds of times real time) to label whole corpora on a CPU.

Autocorrelation of a Hann-windowed frame, divided by that of the window (Boersma 1993, "Accurate short-term analysis
of the fundamental frequency"), several candidates for each frame, then the cheapest path through them: octave jumps
and voicing changes cost. Frame t is centred on sample (t + 1/2) hop, so frames and hops line up.

    frames = ceil(A / hop)         |<- hop ->|<- hop ->|<- hop ->|
                                   |  t = 0  |  t = 1  |  t = 2  |
"""

from typing import NamedTuple

import numpy as np

from omni_jax.prepare.audio import SAMPLE_RATE

LOWEST_HZ, HIGHEST_HZ = 60.0, 420.0
_WINDOW = 768  # 48 ms: almost three periods of the lowest voice
_FFT = 2048  # holds window + longest lag without wrapping
_CANDIDATES = 4
_VOICING_THRESHOLD = 0.45  # Boersma's default
_SILENCE_THRESHOLD = 0.02  # of the loudest frame; his 0.03
_OCTAVE_COST = 0.02  # favours the shorter period for an octave; his 0.01
_JUMP_COST = 0.7  # for each octave between neighbouring frames; he has 0.35 for 10 ms
_VOICING_COST = 0.14  # for each change between voiced and unvoiced; his 0.14


class Pitch(NamedTuple):
  """F0 in Hz, float32 [T] (0 where unvoiced), and whether each frame is voiced, bool [T]."""

  f0_hz: np.ndarray
  voiced: np.ndarray


def track_f0(waveform: np.ndarray, *, hop_samples: int = 160) -> Pitch:
  """Returns the pitch of `waveform` (float [A], 16 kHz): one frame for each `hop_samples`, the last one rounded up."""
  frames = _frames(np.asarray(waveform, np.float32), hop_samples)
  correlation, first_lag = _correlation(frames)
  candidates_hz, strengths = _candidates(correlation, first_lag)
  amplitude = np.sqrt(np.mean(frames**2, axis=1))
  loudness = amplitude / max(float(amplitude.max(initial=0.0)), 1e-5)
  unvoiced = _VOICING_THRESHOLD + np.maximum(0.0, 2.0 - loudness / _SILENCE_THRESHOLD)
  path = _cheapest_path(candidates_hz, strengths, unvoiced)
  f0 = np.concatenate([candidates_hz, np.zeros((len(frames), 1))], axis=1)[np.arange(len(frames)), path]
  return Pitch(f0.astype(np.float32), f0 > 0)


def _frames(waveform: np.ndarray, hop: int) -> np.ndarray:
  """Returns windows [T, _WINDOW] with their mean taken out, not yet tapered."""
  num_frames = -(-len(waveform) // hop)
  before = _WINDOW // 2 - hop // 2
  padded = np.pad(waveform, (before, num_frames * hop - len(waveform) + _WINDOW))
  frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[: num_frames * hop : hop]
  return frames - frames.mean(axis=1, keepdims=True)


def _correlation(frames: np.ndarray) -> tuple[np.ndarray, int]:
  """Returns the normalised autocorrelation [T, lags] and its first lag; one lag more on either side for the peaks."""
  window = np.hanning(_WINDOW).astype(np.float32)
  first, last = int(SAMPLE_RATE / HIGHEST_HZ) - 1, int(SAMPLE_RATE / LOWEST_HZ) + 2
  spectrum = np.abs(np.fft.rfft(frames * window, _FFT)) ** 2
  correlation = np.fft.irfft(spectrum, _FFT)
  of_window = np.fft.irfft(np.abs(np.fft.rfft(window, _FFT)) ** 2, _FFT)
  scale = np.maximum(correlation[:, :1], 1e-8) * (of_window / of_window[0])[first:last]
  return correlation[:, first:last] / scale, first


def _candidates(correlation: np.ndarray, first_lag: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns frequencies and strengths [T, _CANDIDATES] of the best peaks; absent ones have strength -10."""
  inner = correlation[:, 1:-1]
  is_peak = (inner > correlation[:, :-2]) & (inner >= correlation[:, 2:]) & (inner > 0.5 * _VOICING_THRESHOLD)
  lags = np.arange(inner.shape[1]) + first_lag + 1
  scored = np.where(is_peak, inner - _OCTAVE_COST * np.log2(LOWEST_HZ * lags / SAMPLE_RATE), -10.0)
  best = np.argpartition(-scored, _CANDIDATES, axis=1)[:, :_CANDIDATES]
  strengths = np.take_along_axis(scored, best, axis=1)
  left, middle, right = (np.take_along_axis(correlation, best + shift, axis=1) for shift in range(3))
  bend = left - 2.0 * middle + right  # a parabola through the peak and its neighbours
  shift = np.where(bend < -1e-9, 0.5 * (left - right) / np.minimum(bend, -1e-9), 0.0)
  return SAMPLE_RATE / (lags[best] + np.clip(shift, -0.5, 0.5)), strengths


def _cheapest_path(candidates_hz: np.ndarray, strengths: np.ndarray, unvoiced: np.ndarray) -> np.ndarray:
  """Returns for each frame the chosen candidate, _CANDIDATES meaning unvoiced (Viterbi)."""
  num_frames = len(candidates_hz)
  gains = np.concatenate([strengths, unvoiced[:, None]], axis=1)
  octaves = np.log2(candidates_hz)
  jumps = np.full((num_frames, _CANDIDATES + 1, _CANDIDATES + 1), _VOICING_COST)  # [from frame, to, from]
  jumps[1:, :-1, :-1] = _JUMP_COST * np.abs(octaves[1:, :, None] - octaves[:-1, None, :])
  jumps[:, -1, -1] = 0.0
  total = gains[0] if num_frames else np.zeros(_CANDIDATES + 1)
  back = np.zeros((num_frames, _CANDIDATES + 1), np.int64)
  for frame in range(1, num_frames):
    reached = total - jumps[frame]
    back[frame] = reached.argmax(axis=1)
    total = reached.max(axis=1) + gains[frame]
  path = np.zeros(num_frames, np.int64)
  state = int(total.argmax())
  for frame in range(num_frames - 1, -1, -1):
    path[frame] = state
    state = back[frame, state]
  return path
