"""`stcompile targets`: what there is to compile for."""

from __future__ import annotations

from stcompile.artifact.target import OF_GRAPHS, TARGETS
from stcompile.cli import options, render
from stcompile.cli.console import out, print_json


def targets(as_json: options.JsonOption = False) -> None:
    """List the targets: what each is for, its tolerance, and whether this machine can run it."""
    rows = [
        {
            "name": target.name,
            "recipe": target.recipe,
            "purpose": target.purpose,
            "batch_invariant": target.batch_invariant,
            "min_cosine": target.tolerance.min_cosine,
            "max_abs_error": target.tolerance.max_abs_error,
            "mean_cosine": target.tolerance.mean_cosine,
            "calibrates": target.calibrates,
            "refusals": list(target.refusals()),
            "caveats": list(target.caveats()),
        }
        for target in (*TARGETS.values(), *OF_GRAPHS.values())
    ]
    if as_json:
        print_json(rows)
    else:
        out.print(render.targets(rows))
