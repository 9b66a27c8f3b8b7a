"""Many texts: files in and files out, and what encodes the batches of a pipeline."""
