"""What keeps services at their wanted tasks: README.md tells the vocabulary and the order of calls."""

from swarmkit.manager.orchestrator.enforcer import ConstraintEnforcer
from swarmkit.manager.orchestrator.global_services import GlobalOrchestrator
from swarmkit.manager.orchestrator.reaper import TaskReaper
from swarmkit.manager.orchestrator.replicated import ReplicatedOrchestrator
from swarmkit.manager.orchestrator.restart import RestartSupervisor
from swarmkit.manager.orchestrator.update import UpdateSupervisor

__all__ = [
    "ConstraintEnforcer",
    "GlobalOrchestrator",
    "ReplicatedOrchestrator",
    "RestartSupervisor",
    "TaskReaper",
    "UpdateSupervisor",
]
