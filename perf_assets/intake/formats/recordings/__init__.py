"""What this project recorded of commands."""
