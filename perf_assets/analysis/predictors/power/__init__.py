"""Power limits: what a run takes under another limit than it was measured at, and which limit to choose."""
