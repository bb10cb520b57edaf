"""Which node gets how many workers, of which share, and who makes room for whom; without Ray."""

import time
import types
from pathlib import Path

import pytest

from tas_bench.dispatch import Task
from tas_bench.errors import InputError, TasBenchError
from tas_bench.resources import Resources, Share
from tas_bench.runner import cluster
from tas_bench.runner.actor import Actor, Ended
from tas_bench.runner.driver import _step, feed
from tas_bench.runner.pool import FAILURES, FALSE_STARTS, FULL_STARTS, GREETING_SECONDS, PROMPT_SECONDS, Pool
from tas_bench.runner.worker import Hello, Report


def make_pool(shares, nodes):
    """A pool that starts nothing by itself."""
    pool = Pool(shares, (Path(), "", None, {}), float("inf"), 60, lambda *_: None)
    pool.nodes = nodes
    return pool


def actors(pool, monkeypatch):
    """Lets a pool start and kill actors without Ray. Those it started greet when `come` is called."""
    killed, nodes = [], list(pool.nodes)

    def start(share, node):
        pool.actors.append(Actor(object(), share, node.id, pending=object(), asked=time.monotonic()))

    def kill(actor):
        pool.actors.remove(actor)
        killed.append(actor)

    monkeypatch.setattr(pool, "_start", start)
    monkeypatch.setattr(pool, "_kill", kill)
    monkeypatch.setattr(cluster, "nodes", lambda: nodes)
    pool.all_nodes = nodes
    return killed


def come(pool):
    for actor in pool.actors:
        if not actor.greeted:
            actor.greeted, actor.pending = True, None


def look_again(pool, waiting):
    pool.looked = -1e9
    pool.fit(waiting)


def test_actors_fill_unequal_nodes_and_no_more(monkeypatch):
    share = Share(1, 0.25)
    pool = make_pool({share}, [cluster.Node("a", 2, 1), cluster.Node("b", 8, 1), cluster.Node("c", 8, 0)])
    actors(pool, monkeypatch)
    look_again(pool, {share: 100})
    assert len(pool.actors) == 2 + 4
    look_again(pool, {share: 100})
    assert len(pool.actors) == 6
    pool.all_nodes.append(cluster.Node("d", 1, 1))
    look_again(pool, {share: 100})
    assert len(pool.actors) == 7, "a late node is used"


def test_what_no_node_has_room_for_is_named(monkeypatch):
    pool = make_pool({Share(2, 0)}, [])
    monkeypatch.setattr(cluster, "nodes", lambda: [cluster.Node("a", 1, 0), cluster.Node("b", 4, 0)])
    pool.check()
    monkeypatch.setattr(cluster, "nodes", lambda: [cluster.Node("a", 1, 0)])
    with pytest.raises(
        InputError, match=r"asks for 2 CPUs and 0 GPUs; the cluster has no room \(its nodes have 1 a"
    ):
        pool.check()


def test_no_more_actors_than_jobs(monkeypatch):
    pool = make_pool({Share(1, 0)}, [cluster.Node("a", 8, 0)])
    actors(pool, monkeypatch)
    look_again(pool, {Share(1, 0): 3})
    assert len(pool.actors) == 3
    look_again(pool, {Share(1, 0): 3})
    assert len(pool.actors) == 3, "those idle take them"


def test_a_large_job_gets_its_turn_among_small_ones(monkeypatch):
    small, large = Share(1, 0.25), Share(1, 1)
    pool = make_pool({small, large}, [cluster.Node("a", 8, 1)])
    killed = actors(pool, monkeypatch)
    look_again(pool, {small: 4})
    come(pool)
    for actor in pool.actors:
        actor.pending = object()
    assert pool.starved({small: 100, large: 1}) is None, "it comes after those that have waited longer"
    waiting = {large: 1, small: 100}
    look_again(pool, waiting)
    assert killed == [], "nobody is stopped at work"
    for count, actor in enumerate(list(pool.actors), start=1):
        actor.pending = None
        assert pool.starved(waiting) == large, "and so the idle one is not fed"
        look_again(pool, waiting)
        assert len(killed) == count
    look_again(pool, waiting)
    assert [actor.share for actor in pool.actors] == [large]
    look_again(pool, waiting)
    assert [actor.share for actor in pool.actors] == [large], "while it starts, it is not given up"
    come(pool)
    assert pool.starved({large: 2, small: 100}) is None
    assert pool.starved({small: 100}) == small, "and now it is theirs"
    assert pool.starved({Share(1, 4): 1, small: 100}) is None, "what no node can hold starves nobody"


def test_small_jobs_take_over_from_a_large_one_that_came_first(monkeypatch):
    """Theirs are started only where the large one leaves room, so it is idle one day, and gives way."""
    small, large = Share(1, 0), Share(2, 0)
    pool = make_pool({small, large}, [cluster.Node("a", 2, 0)])
    killed = actors(pool, monkeypatch)
    look_again(pool, {large: 1, small: 8})
    assert [actor.share for actor in pool.actors] == [large]
    look_again(pool, {large: 1, small: 8})
    come(pool)
    [worker] = pool.actors
    worker.pending = object()
    look_again(pool, {small: 8})
    assert pool.actors == [worker]
    worker.pending = None
    for _ in range(2):
        look_again(pool, {small: 8})
    assert killed == [worker]
    assert [actor.share for actor in pool.actors] == [small, small]


def test_one_that_does_not_come_keeps_others_from_being_fed(monkeypatch):
    """It was promised halves of two GPUs, say: they drain, and it comes."""
    small, large = Share(0, 0.5), Share(0, 1)
    pool = make_pool({small, large}, [cluster.Node("a", 0, 2)])
    killed = actors(pool, monkeypatch)
    look_again(pool, {small: 2})
    come(pool)
    look_again(pool, {large: 1, small: 9})
    waiting = {large: 1, small: 9}
    assert pool.starved(waiting) is None
    pool.actors[-1].asked -= PROMPT_SECONDS
    assert pool.starved(waiting) == large
    look_again(pool, waiting)
    assert len(killed) == 1, "an idle one, where there is another GPU's half as well"


def test_a_node_where_all_fails_is_left_out_while_others_do_well(monkeypatch):
    share = Share(1, 0)
    pool = make_pool({share}, [cluster.Node("good", 1, 0), cluster.Node("bad", 1, 0)])
    actors(pool, monkeypatch)

    def ends(node, status):
        actor = Actor(object(), share, node, greeted=True, task=object())
        pool.actors.append(actor)
        list(pool._told(actor, Report(done=True, status=status, epoch=1, epochs=1, fault=None)))

    for _ in range(2 * FAILURES):
        ends("bad", "failed")
    assert pool.unfit == {}, "who knows whether others would do better"
    ends("good", "failed")
    ends("bad", "failed")
    assert pool.unfit == {}
    ends("good", "ok")
    ends("bad", "diverged")  # which is a job's own matter
    for _ in range(FAILURES - 1):
        ends("bad", "failed")
    assert pool.unfit == {}
    ends("bad", "failed")
    assert list(pool.unfit) == ["bad"]


def test_room_is_kept_for_a_share_that_waits_for_more(monkeypatch):
    small, large = Share(1, 0), Share(2, 0)
    pool = make_pool({small, large}, [cluster.Node("a", 2, 0)])
    actors(pool, monkeypatch)
    look_again(pool, {small: 1})
    come(pool)
    [worker] = pool.actors
    worker.pending = object()
    look_again(pool, {large: 1, small: 9})
    assert pool.actors == [worker], "another small one would fit beside it"


def test_trackers_hear_of_jobs_that_died_for_good():
    tasks = [Task(key, None, None, None) for key in ("again", "over")]
    pool = make_pool({Share(1, 0)}, [])
    pool.poll = lambda _seconds: [Ended(task, how="process", detail="killed") for task in tasks]
    dispatch = types.SimpleNamespace(queued={}, died=lambda key, *_: key == "over")
    heard = []
    _step(pool, dispatch, Resources(address="somewhere"), types.SimpleNamespace(ended=heard.append))
    assert heard == ["over"]


def test_one_that_does_not_come_keeps_those_waiting_that_are_in_its_way(monkeypatch):
    """Another program holds the GPU of one node: the other node, which has none, works on."""
    small, large = Share(1, 0), Share(1, 1)
    pool = make_pool({small, large}, [cluster.Node("gpu", 1, 1), cluster.Node("cpu", 2, 0)])
    killed = actors(pool, monkeypatch)
    waiting = {large: 1, small: 9}
    look_again(pool, waiting)
    assert sorted(actor.node for actor in pool.actors) == ["cpu", "cpu", "gpu"]
    for actor in pool.actors:
        actor.greeted = actor.share == small
        actor.pending = None if actor.greeted else actor.pending
        actor.asked -= PROMPT_SECONDS
    assert pool.starved(waiting) == large
    fed = []
    monkeypatch.setattr(pool, "give", lambda actor, task: fed.append((actor.node, task)))
    tasks = types.SimpleNamespace(
        queued={"final": 1, "candidate": 9}, resources=Resources(gpus_of={"final": 1}, gpus=0), found_gpus=1,
        next_task=lambda kinds, _beside: kinds[0],
    )  # fmt: skip
    pool.looked = -1e9
    feed(pool, tasks)
    assert (fed, killed) == ([("cpu", "candidate")] * 2, [])
    waits = next(actor for actor in pool.actors if not actor.greeted)
    waits.asked -= GREETING_SECONDS
    assert list(pool._overdue()) == []
    assert killed == [waits]
    assert pool.starved(waiting) is None, "for a while"


@pytest.mark.parametrize(
    ("why", "starts"),
    [("worker process died", FALSE_STARTS), ("the node running low on memory. Memory was", FULL_STARTS)],
)
def test_workers_that_do_not_start_are_given_up_later_where_others_have_the_memory(monkeypatch, why, starts):
    pool = make_pool({Share(1, 0)}, [cluster.Node("a", 1, 0)])
    actors(pool, monkeypatch)
    for again in range(2):
        for _ in range(starts - 1):
            look_again(pool, {Share(1, 0): 1})
            assert list(pool._dead(pool.actors[0], RuntimeError(why))) == []
        if not again:
            look_again(pool, {Share(1, 0): 1})
            assert list(pool._told(pool.actors[0], Hello(None))) == []  # one does, and they count anew
            assert list(pool._dead(pool.actors[0], RuntimeError(why))) == []
    look_again(pool, {Share(1, 0): 1})
    with pytest.raises(TasBenchError, match=f"workers do not start: {why}"):
        list(pool._dead(pool.actors[0], RuntimeError(why)))


def test_one_that_never_comes_is_given_up(monkeypatch):
    pool = make_pool({Share(1, 0)}, [cluster.Node("a", 1, 0)])
    killed = actors(pool, monkeypatch)
    look_again(pool, {Share(1, 0): 1})
    assert list(pool._overdue()) == killed == []
    pool.actors[0].asked -= GREETING_SECONDS
    assert list(pool._overdue()) == []
    assert len(killed) == 1


def test_idle_actors_make_room_when_nothing_waits_for_them(monkeypatch):
    small, large = Share(1, 0), Share(2, 0)
    pool = make_pool({small, large}, [cluster.Node("a", 2, 0)])
    killed = actors(pool, monkeypatch)
    look_again(pool, {small: 2})
    come(pool)
    for _ in range(3):
        look_again(pool, {large: 1})
    assert len(killed) == 2
    assert [actor.share for actor in pool.actors] == [large]


def test_actors_of_a_lost_node_are_forgotten(monkeypatch):
    pool = make_pool({Share(1, 0)}, [cluster.Node("a", 1, 0), cluster.Node("b", 1, 0)])
    actors(pool, monkeypatch)
    look_again(pool, {Share(1, 0): 2})
    come(pool)
    del pool.all_nodes[0]
    look_again(pool, {Share(1, 0): 2})
    assert [actor.node for actor in pool.actors] == ["b"]


def test_an_unfit_node_ends_a_run_that_has_not_begun_and_is_left_out_of_one_that_has(monkeypatch):
    share, unfit = Share(1, 0), Hello("node host has torch 1")
    pool = make_pool({share}, [cluster.Node("n", 4, 0), cluster.Node("m", 1, 0)])
    late, other = Actor(None, share, "n"), Actor(None, share, "m")
    pool.actors = [late, other]
    with pytest.raises(InputError, match="has torch 1"):
        list(pool._told(late, unfit))
    killed = actors(pool, monkeypatch)
    pool.strict = False
    assert list(pool._told(other, Hello(None))) == []
    assert list(pool._told(late, unfit)) == []
    assert killed == [late]
    look_again(pool, {share: 5})
    assert pool.actors == [other], "nothing is started there again"
    assert pool.starved({Share(2, 0): 1, share: 5}) is None, "nor does it count as room"
    other.task = object()
    free = Actor(None, share, "m", greeted=True)
    pool.actors.append(free)
    list(pool._told(Actor(None, share, "m"), Hello("node host has torch 2")))
    assert free.idle
    assert pool.idle() == [], "nor is another worker there fed"
    pool.look()
    other.task = None
    with pytest.raises(cluster.NoClusterError, match="no node of the cluster can run jobs: node host has torch"):
        pool.look()
