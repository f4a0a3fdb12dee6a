"""How process agents come to life: the fork server, its children, and what both say to the orchestrator."""
