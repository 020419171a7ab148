"""What people say of runs, as drops like any other. No tool's log belongs here."""
