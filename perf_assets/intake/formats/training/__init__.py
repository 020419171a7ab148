"""What training and pruning scripts wrote. One module a format."""
