"""Tools around the project; nothing here is installed."""
