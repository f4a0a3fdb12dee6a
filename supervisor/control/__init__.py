"""How people reach a tree from outside: the command line, and what it loads. Import its files by name."""
