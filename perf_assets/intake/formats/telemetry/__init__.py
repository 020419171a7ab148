"""What pollers of devices wrote: power, memory, clocks, utilization. One module a format."""
