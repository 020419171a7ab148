"""Assets, a module a stage of the data's way."""
