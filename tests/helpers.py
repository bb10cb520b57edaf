"""What several test files share."""

from tas_bench.backbones.backbone import ImageShape
from tas_bench.jobs import DataSpec, Problem, Recipe
from tas_bench.search import TasSearch


def problem(keep=0.6, t=0.05, backbone="tiny", **recipe):
    """A small problem for searches on digits."""
    return Problem(
        data=DataSpec(name="digits"), backbone_name=backbone, classes=10, image=ImageShape(1, 8),
        keep=keep, t=t, recipe=Recipe(**{"batch": 128} | recipe),
    )  # fmt: skip


def search_job(settings, seed=0, **changes):
    """The job of a plan, without the plan's checks."""
    return TasSearch(problem=problem(epochs=settings.search_epochs, **changes), settings=settings, seed=seed)
