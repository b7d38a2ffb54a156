"""The dispatcher: sessions, heartbeats, assignments and status reports of all nodes. See README.md."""

from swarmkit.manager.dispatcher.config import DispatcherConfig
from swarmkit.manager.dispatcher.dispatcher import Dispatcher
from swarmkit.manager.dispatcher.service import DispatcherService

__all__ = ["Dispatcher", "DispatcherConfig", "DispatcherService"]
