"""What the client prints: tables, blocks, times and amounts; pure (contract/cli.md, 4)."""
