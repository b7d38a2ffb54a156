"""The commands of ``swarm-rafttool``, a module each."""
