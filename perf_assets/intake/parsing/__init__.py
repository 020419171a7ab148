"""What formats share: sources, records, cells, times, devices, and the registry of all formats. No format
lives here."""
