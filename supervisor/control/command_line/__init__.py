"""The commands of ``orchestree``, one idea a file. Standard library and click only, until a command needs more."""
