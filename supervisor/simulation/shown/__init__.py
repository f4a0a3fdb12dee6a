"""What came of a simulation, as a person reads it. Pure."""
