"""What load generators of inference servers wrote. One module a format."""
