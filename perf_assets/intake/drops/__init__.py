"""What lies in the drops folder, the raw copies of it, and the ledger of what became of each file."""
