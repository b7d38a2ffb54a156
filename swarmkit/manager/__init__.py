"""What runs on managers: the API servers, and the loops of the leader."""
