"""Algorithm 1: the differentiable search, as one resumable job."""

from tas_bench.search.job import TasSearch
from tas_bench.search.settings import SearchSettings
from tas_bench.search.stoppable import StoppableSearch, StopRule

__all__ = ["SearchSettings", "StopRule", "StoppableSearch", "TasSearch"]
