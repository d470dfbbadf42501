"""What a plan suggests: which axis, recomputation or batch would make it fit better or go faster."""

from omni_jax.plan.report import Plan

_TIGHT = 0.05  # share of the memory that another compiler or other data may take
_AGAIN = 0.15  # share computed twice that is worth memory


def advise(plan: Plan) -> list[str]:
  """Returns a line for each suggestion, none if nothing stands out."""
  found = []
  if plan.room_gib < _TIGHT * plan.memory_gib:
    found.append(
      f"only {plan.room_gib:.2f} GiB are free: more of tensor or sequence, step.accumulate, or remat=full make room"
    )
  elif plan.room_gib > plan.temporaries_gib and plan.computed_twice > _AGAIN:
    found.append(
      f"{plan.room_gib:.1f} GiB are free, {100 * plan.computed_twice:.0f} % computed twice: try a remat that keeps more"
    )
  elif plan.room_gib > plan.temporaries_gib:
    found.append(f"{plan.room_gib:.1f} GiB are free: twice the rows would fit, or half the chips")
  if plan.travel_seconds > plan.compute_seconds:
    most = max(plan.travel, key=lambda one: one.seconds)
    share = most.seconds / plan.travel_seconds
    found.append(
      f"travelling takes longer than computing, {100 * share:.0f} % of it {most.kind} along "
      f"{' and '.join(most.axes) or 'no axis'}: {_less(most.axes)}"
    )
  if plan.unread_loops:
    found.append("loops could not be read: travel and cycles are too small")
  return found


def _less(axes: tuple[str, ...]) -> str:
  """Returns what lessens the traffic along some axes."""
  if "tensor" in axes:
    return "a smaller tensor, with sequence or fsdp instead"
  if "sequence" in axes:
    return "a smaller sequence, with tensor instead"
  if "fsdp" in axes:
    return "more rows for each device, fewer parts of step.accumulate, or some tensor"
  return "see the table"
