"""What the `kmunet` command does: one module a subcommand."""
