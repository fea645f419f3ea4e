"""`perf`, as a module that a process can be started with."""

from perfusion_registry.cli import main

if __name__ == "__main__":
    main()
