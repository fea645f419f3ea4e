"""Work on several machines, by Ray: the same operations, as tasks of a cluster.

`address` says where: a cluster that is started here, one that this machine is a node of, or one that takes
jobs. `resources` is what a task asks of a node, `inputs` how what it is made of travels, `shared_store` where
results meet, `node` what a machine does with a task, `reporting` how it tells, `connection` starting and
finding Ray, `driver` submitting, waiting and cancelling, `jobs` the same by way of a Ray job, `pool` all of
it as operations use it.

Nothing here is imported unless somebody asks for several machines.
"""
