"""Commands of the command line that have a file of their own; `prober.cli` has the rest, and the entry point."""
