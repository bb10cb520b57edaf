"""Runs a sweep: a supervisor looks after a driver, which feeds jobs to warm Ray actors on one machine or many.

    supervisor.py   checks, locks, starts the driver and starts it again; the exit code comes from the store
    driver.py       a process of its own: plans in, tasks out
    pool.py         the actors: started where there is room, watched, killed, replaced
    worker.py       what an actor does
    cluster.py      a Ray to run on, and what its nodes have

Each of them may be killed at any moment: workers commit their own rows, and all the others read the store.
"""
