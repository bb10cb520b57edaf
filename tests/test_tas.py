"""TAS as a method: a plan of one search, and what it refuses before it starts."""

import pytest
from helpers import problem

from tas_bench.backbones.backbone import ImageShape
from tas_bench.errors import InputError, PlanFailedError
from tas_bench.jobs import Context, DataSpec, Outcome, Problem, Recipe
from tas_bench.tas import Tas


@pytest.fixture
def context(tmp_path):
    return Context(results=tmp_path)


@pytest.mark.parametrize("search", ["W", "WD"])
def test_more_samples_than_candidates_are_refused_when_the_plan_starts(search):
    next(Tas(search=search, samples=8).plan(problem(), 0))  # 16 has eight candidates, though 8 has seven
    with pytest.raises(InputError, match=r"\|I\|\) is 9; tiny has 8 candidates"):
        next(Tas(search=search, samples=9).plan(problem(), 0))


def test_more_samples_than_depths_are_refused_or_harmless(context):
    try:
        [job] = next(Tas(search="D", samples=3, search_epochs=1).plan(problem(t=0.5), 0))
    except InputError:
        return
    job.run(context)


def test_a_budget_out_of_the_searched_spaces_reach_is_refused_when_the_plan_starts():
    """Width and depth together meet it, depth alone does not."""
    next(Tas(search="WD").plan(problem(keep=0.6), 0))
    with pytest.raises(InputError, match="widen t"):
        next(Tas(search="D").plan(problem(keep=0.6), 0))


def test_plan_is_one_search_and_returns_its_size():
    plan = Tas(search_epochs=7).plan(problem(epochs=99), seed=5)
    [job] = next(plan)
    assert (job.kind, job.touches_test, job.seed) == ("search", False, 5)
    assert job.problem.recipe == Recipe(batch=128, epochs=7)
    assert job.describe()["split"] == "search"
    size = job.problem.backbone.full
    with pytest.raises(StopIteration) as end:
        plan.send([Outcome(size=size)])
    assert end.value.value == size


def test_plan_of_a_failed_search_fails():
    plan = Tas().plan(problem(), seed=0)
    next(plan)
    with pytest.raises(PlanFailedError, match="diverged: NaN"):
        plan.send([Outcome(status="diverged", error="NaN")])


@pytest.mark.parametrize("keep", [0.6, 0.87])
def test_depths_alone_are_searched_on_the_papers_network(keep):
    """More rows than numpy has dimensions, though all but three have one candidate."""
    paper = Problem(
        data=DataSpec(), backbone_name="resnet32", classes=100, image=ImageShape(), keep=keep, t=0.05,
        recipe=Recipe(),
    )  # fmt: skip
    [job] = next(Tas(search="D").plan(paper, 0))
    assert job.settings.search == "D"
