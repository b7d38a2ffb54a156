"""SwarmKit: a toolkit that turns machines into a swarm and keeps services running on it."""

__version__ = "0.1.0"
