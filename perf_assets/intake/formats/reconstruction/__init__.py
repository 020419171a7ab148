"""What particle-track reconstruction wrote. One module a format."""
