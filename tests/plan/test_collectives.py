import pytest

from omni_jax.plan.collectives import Collective, read_collectives
from omni_jax.plan.scheduled import ScheduledProgram

MESH = {"replica": 1, "fsdp": 4, "tensor": 2, "sequence": 1, "expert": 1}

# As the compiler writes it, shortened: a loop of five, an asynchronous gather, a fused sum, a reduction by lists.
PROGRAM = """HloModule jit_step, entry_computation_layout={(f32[8]{0})->f32[8]{0}}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%fused (p: f32[16,4]) -> f32[16,4] {
  %p = f32[16,4]{1,0} parameter(0)
  ROOT %all-reduce.2 = f32[16,4]{1,0:T(8,128)} all-reduce(%p), channel_id=3, replica_groups=[4,2]<=[8], to_apply=%add
}

%body (state: (s32[], bf16[16,4])) -> (s32[], bf16[16,4]) {
  %state = (s32[], bf16[16,4]{1,0}) parameter(0)
  %ag = (bf16[4,4]{1,0}, bf16[16,4]{1,0}) all-gather-start(%x), replica_groups=[2,4]<=[4,2]T(1,0), dimensions={0}
  %done = bf16[16,4]{1,0} all-gather-done(%ag)
  %f = f32[16,4]{1,0} fusion(%done), kind=kOutput, calls=%fused
  %cp = (f32[8]{0}, f32[8]{0}, u32[], u32[]) collective-permute-start(%y), source_target_pairs={{0,2},{2,4},{4,6},{6,0}}
}

%condition (state: (s32[], bf16[16,4])) -> pred[] {
  %state.1 = (s32[], bf16[16,4]{1,0}) parameter(0)
}

ENTRY %main (p0: f32[8]) -> f32[8] {
  %p0 = f32[8]{0} parameter(0)
  %w = (s32[], bf16[16,4]{1,0}) while(%t), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"5"},"x":[]}
  %rs = f32[2]{0} reduce-scatter(%p0), replica_groups={{0,2,4,6},{1,3,5,7}}, dimensions={0}, to_apply=%add
  %both = (f32[8]{0}, f32[2]{0}) all-reduce(%p0, %rs), replica_groups={}, to_apply=%add
}
"""  # noqa: E501


# As the TPU's compiler writes a reduce-scatter, and groups by the axes of a mesh, or by a part of one.
OF_A_TPU = """HloModule jit_step

%all-reduce-scatter.6.clone (input: f32[16,4]) -> f32[4,4] {
  %input = f32[16,4]{1,0} parameter(0)
  %sum = f32[16,4]{1,0} all-reduce(%input), replica_groups={{0,2,4,6},{1,3,5,7}}, to_apply=%add
  ROOT %part = f32[4,4]{1,0} dynamic-slice(%sum, %at, %zero), dynamic_slice_sizes={4,4}
}

ENTRY %main (p0: f32[16,4]) -> f32[4,4] {
  %p0 = f32[16,4]{1,0} parameter(0)
  %g = bf16[16,4]{1,0} all-gather(%p1), replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_1'}, dimensions={0}
  %h = bf16[16,4]{1,0} all-gather(%p1), replica_groups=mesh['axis_0'=8] {'axis_0':(1)4}, dimensions={0}
  ROOT %f = f32[4,4]{1,0} fusion(%p0), kind=kCustom, calls=%all-reduce-scatter.6.clone
}
"""


def test_what_the_compiler_for_tpus_writes():
  assert read_collectives(ScheduledProgram(OF_A_TPU), mesh=MESH) == [
    Collective("all-gather", ("tensor",), 16 * 4 * 2, 1, 2),
    Collective("all-gather", ("fsdp",), 16 * 4 * 2, 1, 4),
    Collective("reduce-scatter", ("fsdp",), 16 * 4 * 4, 1, 4),
  ]


def test_kinds_axes_bytes_and_how_often():
  assert read_collectives(ScheduledProgram(PROGRAM), mesh=MESH) == [
    Collective("all-gather", ("fsdp",), 16 * 4 * 2, 5, 4),
    Collective("all-reduce", ("tensor",), 16 * 4 * 4, 5, 2),
    Collective("collective-permute", ("fsdp",), 8 * 4, 5, 2),
    Collective("reduce-scatter", ("fsdp",), 8 * 4, 1, 4),
    Collective("all-reduce", ("fsdp", "tensor"), 10 * 4, 1, 8),
  ]


@pytest.mark.parametrize(
  ("kind", "members", "received"),
  [
    ("all-gather", 4, 3 * 75),
    ("reduce-scatter", 4, 3 * 75),
    ("all-reduce", 4, 3 * 150),
    ("collective-permute", 2, 300),
  ],
)
def test_what_a_device_has_already_is_not_received(kind, members, received):
  assert Collective(kind, (), 100, 3, members).received == received
