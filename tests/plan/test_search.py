import dataclasses
import types

import jax
import pytest

from omni_jax.cli.main import main
from omni_jax.core import config
from omni_jax.core.errors import UserError
from omni_jax.core.topologies import Topology, find_topology
from omni_jax.plan.advice import advise
from omni_jax.plan.program import TooLarge
from omni_jax.plan.report import Travel
from omni_jax.plan.search import Outcome, best, choices, nearest, search
from tests.plan.test_report import make_run


def test_choices_divide_what_they_split():
  run, topology = make_run(), find_topology("v5e-8")  # 4 rows of 16, heads 4 and 2, and 2 in the tower
  found = choices(run, topology, devices=8)
  assert {choice.mesh for choice in found} == {
    "fsdp=4,tensor=2", "fsdp=4,sequence=2", "fsdp=2,tensor=2,sequence=2", "fsdp=2,sequence=4",
    "tensor=2,sequence=4", "sequence=8",
  }  # fmt: skip
  assert all(choice.accumulate == 1 for choice in found if choice.mesh.startswith("fsdp=4"))
  assert {choice.accumulate for choice in found if choice.mesh == "sequence=8"} == {1, 2, 4}
  assert [choice.likely_seconds for choice in found] == sorted(choice.likely_seconds for choice in found)
  changed = config.replace(run, found[0].settings(run))
  assert (changed.mesh, changed.model.decoder.remat) == (found[0].mesh, found[0].remat)


def test_slices_are_replicas():
  assert {choice.mesh.split(",")[0] for choice in choices(make_run(), find_topology("2xv5e-4"), devices=8)} == {
    "replica=2"
  }


@pytest.fixture(scope="module")
def outcome():
  """The likely best choice on one device of this machine."""
  (found,) = search(make_run(), find_topology("v5e-1"), devices=jax.devices()[:1], options={}, most=1)
  return found


def test_the_shortest_step_that_fits_is_found(outcome):
  assert outcome.choice.remat == "none" and outcome.fits and best([outcome]) is outcome
  dear = dataclasses.replace(outcome.plan, compute_seconds=2 * outcome.plan.compute_seconds)
  large = dataclasses.replace(outcome.plan, peak_gib=100.0, compute_seconds=outcome.plan.compute_seconds / 2)
  tried = [Outcome(outcome.choice, each, "") for each in (dear, outcome.plan, large)]
  assert best(tried) is tried[1] and "too much" in str(tried[2])


def test_a_choice_that_does_not_compile_is_told_and_passed_over(monkeypatch):
  def refuse(*_, **__):
    raise UserError("a step needs 20G", where="plan", rule="it fits", remedy="more chips")

  monkeypatch.setattr("omni_jax.plan.search.make_plan", refuse)
  tried = list(search(make_run(), find_topology("v5e-8"), devices=[None] * 8, options={}, most=3))
  assert len(tried) == 3 and best(tried) is None and all("needs 20G" in str(one) for one in tried)


def test_a_step_that_does_not_fit_is_refused_with_the_nearest_that_do(monkeypatch, tmp_path, outcome, capsys):
  tried = []

  def make(run, *_, **__):
    tried.append(run)
    if run.model.decoder.remat != "full":
      raise TooLarge("a step needs 20G", where="plan", rule="it fits", remedy="more chips")
    return outcome.plan

  recipe = tmp_path / "large_recipe_of_tests.py"
  model = "packed.model_config(remat='none')"
  recipe.write_text(
    f"from tests.plan.test_report import make_run, packed\ndef large(_): return make_run(model={model})"
  )
  monkeypatch.setattr("omni_jax.plan.search.make_plan", make)
  monkeypatch.setattr("omni_jax.cli.plan.make_plan", make)
  monkeypatch.setattr("omni_jax.cli.plan.find_devices", lambda _: [jax.devices()[0]] * 8)
  words = ["plan", "--config", f"{recipe}:large", "--workdir", str(tmp_path), "--topology", "v5e-8"]
  assert main([*words, "--mesh", "fsdp=4,tensor=2"]) == 2
  told = capsys.readouterr().err
  assert "needs 20G" in told and told.count("model.decoder.remat=full") == 3
  assert (tried[1].mesh, tried[1].model.decoder.remat) == ("fsdp=4,tensor=2", "dots")  # the nearest comes first
  assert len(tried) <= 10 and "fsdp=4,tensor=2 --set model.decoder.remat=full" in told


def test_what_holds_no_weights_or_no_rows_is_told():
  topology = find_topology("v5e-8")
  small = Topology(generation=dataclasses.replace(topology.generation, memory_gib=1e-9), number=8)
  with pytest.raises(UserError, match="4 rows on 8 devices"):
    choices(make_run(), small, devices=8)


@pytest.mark.parametrize("ask", [nearest, lambda *given, **more: list(search(*given, **more, most=1))])
def test_a_decoder_that_is_none_of_a_language_model_is_told(ask):
  data = types.SimpleNamespace(shapes=lambda: {"waveform": jax.ShapeDtypeStruct((4, 16), "float32")})
  run = types.SimpleNamespace(name="voice", model=types.SimpleNamespace(decoder=object()), data=data, mesh="")
  with pytest.raises(UserError, match="meshes are searched for language models"):
    ask(run, find_topology("v5e-8"), devices=jax.devices()[:1], options={})


def test_advice_names_what_stands_out(outcome):
  plan = dataclasses.replace(outcome.plan, peak_gib=15.0, temporaries_gib=10.0)
  assert "are free" in advise(plan)[0] and len(advise(plan)) == 1
  far = (Travel(kind="all-gather", axes=("tensor",), gib=9.0, times=4, seconds=9.0),)
  assert "all-gather along tensor" in advise(dataclasses.replace(plan, travel=far))[1]
  roomy = dataclasses.replace(plan, peak_gib=4.0, temporaries_gib=3.0)
  assert "twice the rows" in advise(roomy)[0]
  assert "keeps more" in advise(dataclasses.replace(roomy, computed_twice=0.3))[0]
