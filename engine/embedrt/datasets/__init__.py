"""Datasets of any number of rows into vectors, exactly once, with the engines that a cluster has.

::

    plan      pure: an input's files and row groups into shards of about equal work
    inputs    what an input is made of, and the rows of one shard
    stores    files of a folder or an object store: read, listed, and written whole or not at all
    ledger    what lies in OUT/_embedrt: the run, the plan, and a record per finished shard
    policy    pure: what becomes of an error; how many processes and threads
    seen      texts that were embedded before
    work      one shard: read, embed, write, record
    local, on_ray, on_spark    shards to workers
    run       the whole: plan, resume, engine, report
    check     the proof: every input row once

A shard's output appears whole under its own name or not at all, and whoever is second leaves it as it is. So a worker,
a node or the driver may be killed at any point, and two drivers may work on one output.
"""
