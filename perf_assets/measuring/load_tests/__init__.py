"""Load studies of inference servers: what is declared, the load, the servers, and the search for what they can
bear."""
