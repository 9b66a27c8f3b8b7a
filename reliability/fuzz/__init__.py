"""Fuzzing: inputs that nobody wrote, from real ones by changes that coverage chooses (atheris, libFuzzer)."""
