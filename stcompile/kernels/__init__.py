"""What the CPU has, and our own operators for it."""
