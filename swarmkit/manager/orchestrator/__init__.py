"""What keeps services at their wanted tasks: README.md tells the vocabulary and the order of calls."""
