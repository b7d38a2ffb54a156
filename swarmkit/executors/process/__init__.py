"""The embedded executor: runs a task's command as a supervised local process, without any engine.

It is for trying a swarm out and for tests. The image is shown and otherwise ignored: the command runs on the
machine as it is, with its files and its network, and is not isolated from it. ``spec.py`` says what of a task
is honoured, what is refused, and what a task without a command does.

Each process has a supervisor of its own (``supervisor.py``), a small program that outlives ``swarmd``: it
waits for the process, keeps its output in bounded files and writes its exit status down. An agent that was
killed and started again finds its processes by the supervisors' lock files.
"""

from swarmkit.executors.process.executor import ProcessExecutor

__all__ = ["ProcessExecutor"]
