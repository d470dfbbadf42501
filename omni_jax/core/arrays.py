"""The letter legend and the named array types of the whole project.

Letters, the same in every einsum and every shape:

    B batch          T positions (queries)   S positions (keys)      D width
    N query heads    K key-value heads       G query heads per key-value head
    H head width     F MLP width             V vocabulary            L layers
    P patches        C channels              M mel bins              A audio samples
    U unit frames    Q codebooks             E code width            R token rows of a grid

A public signature is written in the nouns below, so that a shape needs no comment; `typed` checks them while a
function is traced (or called eagerly), which costs nothing per compiled step.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
from beartype import beartype
from jaxtyping import Bool, Float, Int, jaxtyped

Array = jax.Array
Key = jax.Array  # a random key; never called rng

# Language model
Tokens = Int[Array, "B T"]
Positions = Int[Array, "B T"]
SegmentIds = Int[Array, "B T"]
LossMask = Float[Array, "B T"]
Hidden = Float[Array, "B T D"]
Queries = Float[Array, "B T N H"]
Keys = Float[Array, "B S K H"]
Values = Float[Array, "B S K H"]
Mask = Bool[Array, "B T S"]
Logits = Float[Array, "B T V"]
RowTokens = Int[Array, "B T R"]
RowLogits = Float[Array, "B T R V"]

# Images, as packed rows of flattened patches
Patches = Float[Array, "B P C"]
PatchPositions = Int[Array, "B P 2"]
PatchHidden = Float[Array, "B P D"]

# Speech
Waveform = Float[Array, "B A"]
Mel = Float[Array, "B T M"]
Codes = Float[Array, "B U E"]
Units = Int[Array, "B U"]

Scalar = Float[Array, ""]
Sums = dict[str, tuple[Array, Array]]  # metrics as (sum, count): a window of steps is averaged by adding both

Function = TypeVar("Function", bound=Callable)


def typed(function: Function) -> Function:
  """Returns `function` with its array annotations checked at every trace: shapes, dtypes and shared letters."""
  return jaxtyped(typechecker=beartype)(function)


def bucket(size: int, *, smallest: int) -> int:
  """Returns the next of `smallest`, 2 `smallest`, 4 `smallest`, ...: few shapes, few compilations."""
  return smallest << (max(-(-size // smallest), 1) - 1).bit_length()
