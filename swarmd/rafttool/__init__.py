"""``swarm-rafttool``: looks at a manager's raft log and snapshots offline. Never writes to them."""
