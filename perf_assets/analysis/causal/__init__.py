"""What drives time, memory and outcomes of runs: graph search, effects and words. Opens no database but in pipeline."""
