"""The verbs of the package manager, one a file: functions of a `Workspace` and options that return a result.

They print nothing and know no terminal; what takes time is told to the workspace's reporter. A result that is
dumped is what the command of that name prints with `--json`.
"""
