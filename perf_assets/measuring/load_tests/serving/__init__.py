"""Servers of a study: started, configured and ended; and two small ones of our own, whose times are known."""
