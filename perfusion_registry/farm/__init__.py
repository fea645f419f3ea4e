"""Work on several machines, by Ray: the same operations, as tasks of a cluster.

`place` says where: a cluster that is started here, one that this machine is a node of, or one that takes
jobs. `needs` is what a task asks of a node, `parcels` how its inputs travel, `shared_store` where results
meet, `node` what a machine does with a task, `board` how it tells, `cluster` starting and finding Ray,
`driving` submitting, waiting and cancelling, `jobs` the same by way of a Ray job, `pool` all of it as
operations use it.

Nothing here is imported unless somebody asks for several machines.
"""
