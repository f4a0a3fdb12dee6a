"""A log put through the core once more, and what each decision in it was made from. Pure."""
