"""The nouns of the command line; each package or module holds a ``command``."""
