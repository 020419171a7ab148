"""What is stored: tables, vocabularies and the catalogue of devices. Imports workspace alone."""
