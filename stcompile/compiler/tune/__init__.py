"""Which target is best for a model on this machine."""
