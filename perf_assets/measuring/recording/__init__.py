"""Writing down what a command or a measurement did while it runs."""
