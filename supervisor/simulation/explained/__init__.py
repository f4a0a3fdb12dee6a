"""What `explain` says of a tree, read off simulations. Pure."""
