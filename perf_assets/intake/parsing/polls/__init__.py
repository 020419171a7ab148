"""What poll logs of devices share: fields, reading whole logs, sessions, devices by order, processes. No
format."""
