"""One machine: its identity, its agent, and a manager while its role says so."""
