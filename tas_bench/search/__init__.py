"""Algorithm 1: the differentiable search, as one resumable job."""

from tas_bench.search.job import TasSearch
from tas_bench.search.settings import SearchSettings

__all__ = ["SearchSettings", "TasSearch"]
