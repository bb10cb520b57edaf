"""Shares of nodes, the cores there are, and the token of a cluster."""

import os
from dataclasses import replace

import pytest

from tas_bench.errors import InputError
from tas_bench.resources import Resources, Share, join_environment


@pytest.mark.parametrize(
    ("share", "node", "jobs"),
    [
        (Share(1, 0), (4, 0), 4),
        (Share(0.5, 0), (2, 0), 4),
        (Share(1, 0.25), (16, 1), 4),
        (Share(1, 0.25), (3, 1), 3),
        (Share(1, 0.4), (16, 2), 4),  # two on each, never one across both
        (Share(0, 0.3), (0, 1), 3),
        (Share(1, 1), (16, 0), 0),
        (Share(8, 0), (4, 1), 0),
    ],
)
def test_a_node_takes_what_both_its_cpus_and_its_gpus_allow(share, node, jobs):
    assert share.fits(*node) == jobs


def test_kinds_have_shares_of_their_own():
    resources = Resources(cpus=2, gpus_of={"search": 1}, cpus_of={"final": 4})
    assert resources.share("search", 8) == Share(2, 1)
    assert resources.share("final", 8) == Share(4, 0.25)
    assert resources.share("candidate", 0) == Share(2, 0)
    assert resources.shares(8) == {Share(2, 0.25), Share(2, 1), Share(4, 0.25)}


def test_a_share_is_checked():
    for shares in ({"gpus_of": {"search": 1.5}}, {"cpus_of": {"serach": 1}}, {"job_seconds": 0}):
        with pytest.raises(InputError):
            replace(Resources(), **shares)


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", None])
def test_who_has_a_token_says_so(tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    for other in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(other, raising=False)
    assert "RAY_AUTH_MODE" not in join_environment()
    if name is None:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").touch()
    else:
        monkeypatch.setenv(name, "x")
    assert join_environment()["RAY_AUTH_MODE"] == "token"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert join_environment()["RAY_AUTH_MODE"] == "disabled", "what the user says stands"


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    every = os.sched_getaffinity(0)
    assert Resources().total[0] <= len(every)
    os.sched_setaffinity(0, sorted(every)[:1])
    try:
        assert Resources().total[0] == 1
    finally:
        os.sched_setaffinity(0, every)
    assert Resources(total_cpus=7).total[0] == 7
