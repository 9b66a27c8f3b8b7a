"""The command line: verbs to functions, tables, files in and out."""
