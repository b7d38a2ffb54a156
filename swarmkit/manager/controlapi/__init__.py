"""The Control service: validation and transactions, one module a kind (contract/control-api.md)."""

from swarmkit.manager.controlapi.service import ControlService

__all__ = ["ControlService"]
