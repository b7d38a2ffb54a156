"""What runs on every node: the session with the managers, the worker, its tasks and their controllers."""
