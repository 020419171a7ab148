"""What profilers of networks and layers wrote. One module a format."""
