"""Flag values: text to numbers and messages; pure (contract/cli.md, 3)."""
