"""Builds the tiny model folders of golden/models and the vectors of golden/expected."""
