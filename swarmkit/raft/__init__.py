"""Replication: PySyncObj driven by the event loop, with this project's own log, snapshots and cycle."""
