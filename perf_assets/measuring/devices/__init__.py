"""Access to the machine: NVML, RAPL, the host, counters, energy, and the lock of a device. No networks
here."""
