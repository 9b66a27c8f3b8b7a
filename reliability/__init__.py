"""What is done to stcompile to see it fail: hostile input by the million, and faults at random moments.

`python -m reliability` does all of it and writes docs/reliability.md; `--only WORD` and `--seconds N` do a part.
"""
