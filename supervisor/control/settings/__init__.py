"""What is set from outside of the code (`--set`, a TOML file, variables), and what `check` prints of it."""
