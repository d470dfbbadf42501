"""The picture of memory over a step, from what this machine's compiler says of a program whose buffers are known."""

import re
import xml.etree.ElementTree as ElementTree

import jax
import jax.numpy as jnp
import pytest

from omni_jax.core.compilation_cache import compiling_afresh
from omni_jax.core.topologies import find_topology
from omni_jax.plan import memory as memory_module
from omni_jax.plan.memory import Buffer, Loop, Memory, read_memory
from omni_jax.plan.picture import draw
from omni_jax.plan.report import make_plan
from tests.plan.test_report import make_run

LAYERS, ROWS, WIDTH = 5, 32, 64


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
  """Of a gradient through five layers whose inputs are kept."""

  def step(weight, x):
    def loss(weight):
      layer = jax.checkpoint(lambda x, _: (jnp.tanh(x @ weight), None))
      return jnp.sum(jax.lax.scan(layer, x, None, length=LAYERS)[0] ** 2)

    return weight - 0.1 * jax.grad(loss)(weight)

  folder = tmp_path_factory.mktemp("dump")
  dump = {"xla_dump_to": str(folder), "xla_dump_hlo_as_text": True, "xla_dump_hlo_module_re": ".*step.*"}
  arguments = jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.float32), jax.ShapeDtypeStruct((ROWS, WIDTH), jnp.float32)
  with compiling_afresh():
    compiled = jax.jit(step, donate_argnums=0).lower(*arguments).compile(compiler_options=dump)
  return read_memory(folder), compiled.memory_analysis()


def test_what_is_kept_between_the_two_passes_is_alive_from_one_loop_to_the_other(memory):
  memory, said = memory
  assert memory.temporaries == said.temp_size_in_bytes and memory.held == said.argument_size_in_bytes
  assert [loop.times for loop in memory.loops] == [LAYERS, LAYERS]
  (kept,) = [buffer for buffer in memory.buffers if buffer.shape == f"f32[{LAYERS},{ROWS},{WIDTH}]"]
  first, second = memory.loops
  assert kept.size == 4 * LAYERS * ROWS * WIDTH and kept.start < first.start and kept.end >= second.end
  assert kept in memory.at(memory.peak) and memory.at(memory.peak)[0] is kept
  alive = memory.alive
  assert len(alive) == memory.instructions and kept.size < max(alive) <= memory.temporaries
  assert alive[0] < kept.size  # nothing is kept before the first loop


def test_bytes_that_two_share_count_once():
  first = Buffer(name="a", shape="", source="", start=0, end=2, offset=0, size=100)
  inside, beside = first._replace(name="b", offset=50), first._replace(name="c", offset=200, start=2)
  memory = Memory(instructions=4, held=0, temporaries=300, buffers=(first, inside, beside), loops=(Loop(0, 1, None),))
  assert memory.alive == (150, 150, 250, 0) and memory.peak == 2


def test_what_is_alive_is_counted_once_for_one_memory(monkeypatch):
  counted, covered = [], memory_module._covered
  monkeypatch.setattr(memory_module, "_covered", lambda buffers: counted.append(1) or covered(buffers))
  buffer = Buffer(name="a", shape="f32[]", source="", start=0, end=2, offset=0, size=100)
  memory = Memory(instructions=4, held=0, temporaries=100, buffers=(buffer,), loops=())
  assert memory.alive[memory.peak] == 100 and memory.peak == 0
  assert len(counted) == memory.instructions


def test_the_page_holds_the_picture(memory):
  plan = make_plan(make_run(), find_topology("v5e-1"), devices=jax.devices()[:1], options={})
  assert plan.memory is not None and abs(plan.memory.temporaries / 2**30 - plan.temporaries_gib) < 1e-9
  page = draw(plan, plan.memory)
  drawings = [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
  curve, places = drawings
  largest = plan.memory.at(plan.memory.peak)[0]
  told = [title.text or "" for title in places.iter("title")]
  assert any(largest.name in text and largest.shape in text for text in told)
  heights = [float(number) for number in re.findall(r"V([\d.]+)", curve.findall("path")[0].attrib["d"])]
  assert len(heights) == plan.memory.instructions + 1
  # The highest point of the curve stands where most is alive.
  assert heights.index(min(heights)) == plan.memory.peak
  assert "src=" not in page and "http" not in page.replace("http://www.w3.org", "")
