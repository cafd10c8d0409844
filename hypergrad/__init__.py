"""Learn training schedules by hypergradients through the whole training run."""
