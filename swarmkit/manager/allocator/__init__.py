"""The allocator: endpoints of services, and the gate from NEW to PENDING (contract/allocator-volumes.md)."""

from swarmkit.manager.allocator.allocator import Allocator

__all__ = ["Allocator"]
