import jax
import jax.numpy as jnp
import pytest

from omni_jax.plan.scheduled import ScheduledProgram

# As the TPU's compiler writes it, shortened: no trip counts, cycles beside what is scheduled, text of a kernel that has
# lines of its own, the counter of a loop in second place, a loop in a loop, and a choice.
PROGRAM = """HloModule jit_step, is_scheduled=true

%fused (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %n = f32[4]{0} negate(%p)
}

%inner_condition (s: (s32[], f32[4])) -> pred[] {
  %limit = s32[]{:T(128)} constant(8)
  %s = (s32[]{:T(128)}, f32[4]{0}) parameter(0)
  %at = s32[]{:T(128)} get-tuple-element(%s), index=0
  ROOT %lt = pred[]{:T(512)} compare(%at, %limit), direction=LT
}

%inner_body (s.1: (s32[], f32[4])) -> (s32[], f32[4]) {
  %s.1 = (s32[]{:T(128)}, f32[4]{0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%s.1), index=0
  %two = s32[]{:T(128)} constant(2)
  %next = s32[]{:T(128)} add(%i, %two), backend_config={"estimated_cycles":"1"}
  %kept = s32[]{:T(128)} copy(%next)
  %x = f32[4]{0} get-tuple-element(%s.1), index=1
  %f = f32[4]{0} fusion(%x), kind=kLoop, calls=%fused, backend_config={"window_config":{"estimated_cycles":"10"}}
  ROOT %t = (s32[]{:T(128)}, f32[4]{0}) tuple(%kept, /*index=1*/%f)
}

%body (s.2: (f32[4], s32[])) -> (f32[4], s32[]) {
  %s.2 = (f32[4]{0}, s32[]{:T(128)}) parameter(0)
  %j = s32[]{:T(128)} get-tuple-element(%s.2), index=1
  %one = s32[]{:T(128)} constant(1)
  %y = f32[4]{0} get-tuple-element(%s.2), index=0
  %begin = s32[]{:T(128)} constant(0)
  %begin.1 = s32[]{:T(128)} copy(%begin)
  %state = (s32[]{:T(128)}, f32[4]{0}) tuple(%begin.1, %y)
  %w = (s32[]{:T(128)}, f32[4]{0}) while(%state), condition=%inner_condition, body=%inner_body
  %z = f32[4]{0} get-tuple-element(%w), index=1
  %kernel = f32[4]{0} custom-call(%z), custom_call_target="tpu_custom_call", backend_config={"text":"a
}
 b"}
  %far = f32[4]{0} fusion(%z), kind=kCustom, calls=%fused, backend_config={"estimated_cycles":"9223372036854775807"}
  ROOT %t.1 = (f32[4]{0}, s32[]{:T(128)}) tuple(%kernel, %more)
  %more = s32[]{:T(128)} add(%j, %one)
}

%condition (s.3: (f32[4], s32[])) -> pred[] {
  %limit.1 = s32[]{:T(128)} constant(5)
  %s.3 = (f32[4]{0}, s32[]{:T(128)}) parameter(0)
  %at.1 = s32[]{:T(128)} get-tuple-element(%s.3), index=1
  ROOT %lt.1 = pred[]{:T(512)} compare(%at.1, %limit.1), direction=LT
}

%cheap (c: f32[4]) -> f32[4] {
  ROOT %c = f32[4]{0} parameter(0)
}

%dear (d: f32[4]) -> f32[4] {
  %d = f32[4]{0} parameter(0)
  ROOT %e = f32[4]{0} negate(%d), backend_config={"estimated_cycles":"100"}
}

ENTRY %main (p0: f32[4], p1: pred[]) -> f32[4] {
  %p0 = f32[4]{0} parameter(0)
  %p1 = pred[] parameter(1)
  %three = s32[]{:T(128)} constant(3)
  %start = (f32[4]{0}, s32[]{:T(128)}) tuple(%p0, %three)
  %v = (f32[4]{0}, s32[]{:T(128)}) while(%start), condition=%condition, body=%body
  %r = f32[4]{0} get-tuple-element(%v), index=0
  ROOT %chosen = f32[4]{0} conditional(%p1, %r, %r), branch_computations={%cheap, %dear}
}
"""


def times(program, name):
  return sum(times for _, line, times in program.lines() if f"%{name} = " in line)


def test_loops_run_as_often_as_their_condition_says():
  program = ScheduledProgram(PROGRAM)
  assert program.unread == 0
  # From 3 below 5 outside, from 0 below 8 by twos inside.
  assert [times(program, name) for name in ("p0", "w", "kernel", "f", "n", "e")] == [1, 2, 2, 8, 10, 1]


def test_cycles_are_those_of_the_dearest_way():
  assert ScheduledProgram(PROGRAM).cycles() == 2 * 4 * (1 + 10) + 100


def test_a_loop_that_cannot_be_read_is_told_and_counts_once():
  program = ScheduledProgram(PROGRAM.replace("direction=LT", "direction=NE"))
  assert program.unread == 2 and times(program, "f") == 1 and program.cycles() == 11 + 100


@pytest.mark.parametrize("length", [3, 7])
def test_loops_of_this_machines_compiler(length):
  text = jax.jit(lambda x: jax.lax.scan(lambda x, _: (jnp.sin(x @ x), None), x, None, length=length)[0])
  program = ScheduledProgram(text.lower(jnp.ones((4, 4))).compile().as_text())
  products = [times for _, line, times in program.lines() if " dot(" in line or "custom-call(" in line]
  assert program.unread == 0 and max(products) == length and program.cycles() == 0
