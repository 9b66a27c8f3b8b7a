"""Artifacts inside the frameworks of others, a file each: `from stcompile.integrations.langchain import ...`.

Each imports its framework, and nothing else of this package does. Whatever they are given as an artifact is the folder
that `stcompile export` wrote, or what `stcompile.load` gave for it.
"""
