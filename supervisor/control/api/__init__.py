"""The control API: an ASGI application over one orchestrator. Import its files by name."""
