"""Fault tests use the swarms of the integration tests."""

from tests.integration.conftest import docker_swarm, engine, local_swarm, short_folder

__all__ = ["docker_swarm", "engine", "local_swarm", "short_folder"]
