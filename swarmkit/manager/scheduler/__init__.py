"""The scheduler: gives nodes to pending tasks (contract/scheduler.md)."""

from swarmkit.manager.scheduler.scheduler import Scheduler

__all__ = ["Scheduler"]
