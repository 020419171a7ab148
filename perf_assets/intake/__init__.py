"""The way of a drop into the store: drops are found and copied, formats read them, the pipeline publishes."""
