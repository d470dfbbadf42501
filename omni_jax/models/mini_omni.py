"""Mini-Omni (arXiv 2408.16725): a decoder that reads and writes seven rows of codes and one of text, and hears.

Follows litgpt/model.py of github.com/gpt-omni/mini-omni. The rows of a column are embedded and averaged; heads are
slices of one table, so a column of logits is eight distributions. Vectors of an encoder of speech, through a gated
adapter, take the seven audio rows of their places; the text row stays. With a `speaker` (the paper's adapter for
speech, `post_adapter`), six more blocks go on from the states before the norm, with a norm and a table of their own.
Mini-Omni2's images enter as speech does, by an encoder and an adapter of their own (arXiv 2410.11190).

A batch is a dict of arrays, all with the batch first (layout: `tokens.mini_omni`):

    tokens                           [B, T, R]  ids, audio rows first
    positions, segment_ids           [B, T]     segment 0 is padding
    recordings, recording_frames     [B, N, A] 16-bit samples, [B, N] vectors of each (0: none); absent: no speech
    tiles                            [B, N, Y, X, 3] colours of images, those of a row first; absent: no images

Deviation: the cache holds the real key-value heads only, where the original repeats them for every query head.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from omni_jax.core.arrays import Array, Hidden, Key, Positions, RowLogits, RowTokens, typed
from omni_jax.core.config import added
from omni_jax.core.errors import UserError
from omni_jax.models.decoder import Decoder, DecoderConfig, KeyValueCache
from omni_jax.models.fusion import Seen, fill_image_places, real_in_order
from omni_jax.models.gated_adapter import GatedAdapterConfig
from omni_jax.models.sight import SightConfig
from omni_jax.models.sizes import QWEN2_0_5B
from omni_jax.prepare.recordings import RecordingLayout
from omni_jax.tokens.delays import Row
from omni_jax.tokens.mini_omni import MINI_OMNI, MiniOmniLayout

Batch = Mapping[str, Array]
GroupLogits = tuple[Array, ...]  # [B, T, R, V] of each group of rows

_LOUDEST = 32767.0  # of 16-bit samples, as `prepare.audio` writes them


class HearingConfig(Protocol):
  """What the model asks of an encoder of speech; `speech.whisper.WhisperConfig` is one."""

  @property
  def layout(self) -> RecordingLayout:
    """How recordings are cut for it."""
    ...

  def make(self, *, key: Key) -> Any:
    """Returns an encoder with `features(waveform [B, A]) -> [B, U, E]`."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class MiniOmniConfig:
  """The parts and the layout that they share.

  Attributes:
    layout: of the grid.
    decoder: language model; text rows and code rows are its two tables.
    adapter: from the encoder's vectors to the decoder's width.
    hearing: encoder of speech; None where nothing is heard, or to count the parameters of the released file.
    speaker_depth: blocks of the adapter for speech; 0 in the released weights, 6 in the paper.
    seeing: encoder of images (`models.sight`); None where nothing is seen.
  """

  layout: MiniOmniLayout
  decoder: DecoderConfig
  adapter: GatedAdapterConfig
  hearing: Any = None
  speaker_depth: int = 0
  seeing: SightConfig | None = added(None)

  def __post_init__(self):
    sizes = self.decoder.vocab_size, self.decoder.extra_vocab_size
    fits = sizes == (self.layout.text_size, self.layout.audio_size) and self.adapter.outputs == self.decoder.width
    if not fits or self.decoder.experts is not None or self.speaker_depth < 0:
      raise UserError(
        f"tables of {sizes} rows, an adapter to {self.adapter.outputs}, {self.speaker_depth} speaker blocks",
        where="config of a Mini-Omni",
        rule=f"the layout has {self.layout.text_size} text rows and {self.layout.audio_size} code rows, the decoder is "
        f"{self.decoder.width} wide and has no experts",
        remedy="correct the sizes of the decoder or of the adapter",
      )

  @property
  def vision_adapter(self) -> GatedAdapterConfig | None:
    """From the vectors of images to the decoder's width."""
    return None if self.seeing is None else dataclasses.replace(self.adapter, inputs=self.seeing.outputs)

  @property
  def speaker(self) -> DecoderConfig:
    """The adapter for speech as a decoder, whose text table is its head."""
    changes: dict[str, Any] = {"depth": self.speaker_depth, "vocab_size": self.layout.audio_size, "extra_vocab_size": 0}
    return dataclasses.replace(self.decoder, tied=True, unit_levels=(), **changes)

  def make(self, *, key: Key) -> "MiniOmni":
    """Returns a model with random weights."""
    return MiniOmni(self, key=key)


def mini_omni(
  base: DecoderConfig,
  *,
  layout: MiniOmniLayout = MINI_OMNI,
  hearing: Any = None,
  inputs: int = 768,
  speaker: int = 0,
  seeing: SightConfig | None = None,
) -> MiniOmniConfig:
  """Returns a Mini-Omni on any decoder: its text rows grow to the layout's, code rows are added.

  Args:
    base: the language model.
    layout: of the grid.
    hearing: encoder of speech.
    inputs: width of its vectors.
    speaker: blocks of the adapter for speech.
    seeing: encoder of images.
  """
  decoder = dataclasses.replace(base, vocab_size=layout.text_size, extra_vocab_size=layout.audio_size)
  adapter = GatedAdapterConfig(inputs=inputs, mlp_dim=base.mlp_dim, outputs=base.width)
  options: dict[str, Any] = {"hearing": hearing, "speaker_depth": speaker, "seeing": seeing}
  return MiniOmniConfig(layout=layout, decoder=decoder, adapter=adapter, **options)


MINI_OMNI_0_5B = mini_omni(QWEN2_0_5B)


class MiniOmniCache(NamedTuple):
  """What decoding remembers: of the decoder, and of the speaker if there is one."""

  decoder: KeyValueCache
  speaker: KeyValueCache | None


class MiniOmni(nnx.Module):
  """Grids to logits, whole rows for training or with a cache for decoding."""

  def __init__(self, config: MiniOmniConfig, *, key: Key):
    decoder, hearing, adapter, speaker = jax.random.split(key, 4)
    self.config = config
    self.decoder = config.decoder.make(key=decoder)
    self.hearing = None if config.hearing is None else config.hearing.make(key=hearing)
    self.adapter = config.adapter.make(key=adapter)
    self.speaker: Decoder | None = config.speaker.make(key=speaker) if config.speaker_depth else None
    seeing, sight = jax.random.split(jax.random.fold_in(key, 1))
    self.seeing = None if config.seeing is None else config.seeing.make(key=seeing)
    self.vision_adapter = None if config.vision_adapter is None else config.vision_adapter.make(key=sight)

  @property
  def groups(self) -> tuple[tuple[Row, ...], ...]:
    """The rows in order, those of one group together: codes, then text."""
    layout = self.config.layout
    return layout.audio_rows, (layout.text_row,)

  def __call__(self, batch: Batch) -> GroupLogits:
    """Returns the logits of the entries after each column, [B, T, R, V] for codes and for text."""
    return self._logits(self.hidden(batch))

  def hidden(self, batch: Batch) -> tuple[Hidden, Hidden]:
    """Returns the normalised last states of each group; `group_logits` of a part of them gives that part's logits."""
    positions, segment_ids = batch["positions"], batch["segment_ids"]
    states, _ = self.decoder.states(self.embed(batch), positions, segment_ids)
    text = self.decoder.norm(states)
    return (text if self.speaker is None else self.speaker.hidden(states, positions, segment_ids)), text

  @typed
  def group_logits(self, hidden: Hidden, group: int) -> RowLogits:
    """Returns the logits of one group of rows, [B, T, R, V] over the entries of each row."""
    heads = self.decoder.embed if self.decoder.head is None else self.decoder.head
    if group == 1:
      return (hidden @ heads.text[...].T)[:, :, None]
    assert heads.extra is not None, "codes have a table"
    codes = heads.extra if self.speaker is None else self.speaker.embed.text
    return (hidden @ codes[...].T).reshape(*hidden.shape[:2], self.config.layout.num_layers, -1)

  def embed(self, batch: Batch) -> Hidden:
    """Returns the decoder's input: the mean of a column's rows, with vectors of speech and of images in their places.

    Raises:
      UserError: the batch has recordings or images and the model no encoder of them.
    """
    tokens, layout = batch["tokens"], self.config.layout
    codes, text = self._embedded(tokens)
    heard = self._hear(batch)
    if heard is not None:
      is_place = tokens[..., 0] == layout.text_size + layout.place
      codes = fill_image_places(codes, heard.vectors * layout.num_layers, heard.layout, is_image=is_place)
    seen = self._see(batch)
    if seen is not None:
      is_place = tokens[..., 0] == layout.text_size + layout.image_place
      codes = fill_image_places(codes, seen.vectors * layout.num_layers, seen.layout, is_image=is_place)
    return (codes + text) / layout.num_rows

  def empty_cache(self, batch: int, length: int) -> MiniOmniCache:
    """Returns a cache of `length` slots, prompt and answer together."""
    speaker = None if self.speaker is None else self.speaker.empty_cache(batch, length)
    return MiniOmniCache(self.decoder.empty_cache(batch, length), speaker)

  def unrolled(self) -> "MiniOmni":
    """Returns the same model with the layers of its decoder and its speaker taken apart, for decoding."""
    twin = jax.tree.map(lambda leaf: leaf, self)
    twin.decoder = self.decoder.unrolled()
    twin.speaker = None if self.speaker is None else self.speaker.unrolled()
    return twin

  def prefill(self, batch: Batch, cache: MiniOmniCache) -> tuple[tuple[Hidden, Hidden], MiniOmniCache]:
    """Returns the states of each group that the answer's first column is read from, [B, 1, D], and the filled cache.

    Each row of the batch is one prompt, segment id 1, padded on either side with segment 0; `cache` is empty. The
    logits are those of `group_logits`.
    """
    positions, segment_ids = batch["positions"], batch["segment_ids"]
    states, own = self.decoder.prefill_states(self.embed(batch), positions, segment_ids, cache.decoder)
    spoken, speaker = None, cache.speaker
    if self.speaker is not None and speaker is not None:
      spoken, speaker = self.speaker.prefill(states, positions, segment_ids, speaker)
    last = jnp.max(jnp.where(segment_ids > 0, jnp.arange(segment_ids.shape[1]), 0), axis=1)[:, None, None]
    text = self.decoder.norm(jnp.take_along_axis(states, last, axis=1))
    codes = text if spoken is None else jnp.take_along_axis(spoken, last, axis=1)
    return (codes, text), MiniOmniCache(own, speaker)

  @typed
  def step(
    self, tokens: RowTokens, positions: Positions, cache: MiniOmniCache
  ) -> tuple[tuple[Hidden, Hidden], MiniOmniCache]:
    """Returns the states of each group after the given next columns, usually one, and the longer cache."""
    codes, text = self._embedded(tokens)
    x = (codes + text) / self.config.layout.num_rows
    states, own = self.decoder.step_states(x, positions, cache.decoder)
    text, spoken, speaker = self.decoder.norm(states), None, cache.speaker
    if self.speaker is not None and speaker is not None:
      spoken, speaker = self.speaker.step(states, positions, speaker)
    return (text if spoken is None else spoken, text), MiniOmniCache(own, speaker)

  def _embedded(self, tokens: Array) -> tuple[Array, Array]:
    """Returns the sum of the audio rows and the text row of each column, both [B, T, D]."""
    tables, layout = self.decoder.embed, self.config.layout
    assert tables.extra is not None, "codes have a table"
    # Padding of packed rows has id 0 in every row; it is never seen, but it must lie in the table.
    codes = jnp.maximum(tokens[..., : layout.num_layers] - layout.text_size, 0)
    return tables.extra[...][codes].sum(axis=2), tables.text[...][tokens[..., -1]]

  def _hear(self, batch: Batch) -> Seen | None:
    """Returns the vectors of a row's recordings, end to end, and which of them belong to sound."""
    recordings = batch.get("recordings")
    if recordings is None or 0 in recordings.shape:
      return None
    if self.hearing is None:
      raise UserError(
        "a batch with recordings",
        where="Mini-Omni",
        rule="this model has no encoder of speech",
        remedy="give its config `hearing`, or leave the recordings out",
      )
    rows, number, samples = recordings.shape
    waveform = recordings.reshape(-1, samples).astype(jnp.float32) / _LOUDEST
    vectors = self.adapter(self.hearing.features(waveform))
    is_real = jnp.arange(vectors.shape[1]) < batch["recording_frames"][..., None]
    vectors = vectors.reshape(rows, number * vectors.shape[1], -1)
    return Seen(vectors, real_in_order(is_real.reshape(rows, -1)))

  def _see(self, batch: Batch) -> Seen | None:
    """Returns the vectors of a row's images, end to end."""
    tiles = batch.get("tiles")
    if tiles is None or 0 in tiles.shape:
      return None
    if self.seeing is None or self.vision_adapter is None:
      raise UserError(
        "a batch with images",
        where="Mini-Omni",
        rule="this model has no encoder of images",
        remedy="give its config `seeing`, or leave the images out",
      )
    vectors = self.vision_adapter(self.seeing.features(tiles.reshape(-1, *tiles.shape[2:])))
    vectors = vectors.reshape(tiles.shape[0], -1, vectors.shape[-1])
    return Seen(vectors, jnp.broadcast_to(jnp.arange(vectors.shape[1]), vectors.shape[:2]))

  def _logits(self, hidden: tuple[Array, ...]) -> GroupLogits:
    return tuple(self.group_logits(states, group) for group, states in enumerate(hidden))
