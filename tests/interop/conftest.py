"""The fixtures of the integration tests serve the tests with foreign peers too."""

from tests.integration.conftest import engine, local_swarm, short_folder

__all__ = ["engine", "local_swarm", "short_folder"]
