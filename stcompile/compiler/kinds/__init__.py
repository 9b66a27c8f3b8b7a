"""What a model folder may hold: every module type as one descriptor, one a file, without torch.

`registry` is their table. Reading, checking and building walk it: a type that has a descriptor and a row there needs
nothing else but the class in `stcompile.compiler.modules` that the descriptor names.
"""
