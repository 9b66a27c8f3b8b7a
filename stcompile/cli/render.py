"""Tables for people: parity, inspections and targets."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from stcompile.compiler.dotted import split_shared
from stcompile.compiler.parity.probes import shortened

# Characters of a document in a table.
_DOCUMENT = 100


def megabytes(size: int) -> str:
    """Bytes in MB, the way model sizes are quoted."""
    return f"{size / 1e6:.1f} MB"


def parity(target: str, report: dict[str, Any], against: str = "sentence-transformers") -> Table:
    """The parity table: measure, value, what was allowed."""
    allowed = report["tolerance"]
    verdict = "passed" if report["passed"] else "FAILED"
    table = _table(f"{target} against {against}: {verdict}", "measure", "value", "allowed")
    table.add_row("reference", Text(report["reference"]), "")
    chosen = f", chosen of {report['chosen_of']} for a network of its size" if report.get("chosen_of") else ""
    table.add_row("texts", f"{report['num_texts']}{chosen}", "")
    table.add_row("max abs error", f"{report['max_abs_error']:.2e}", _bound("<=", allowed["max_abs_error"]))
    table.add_row("min cosine", f"{report['min_cosine']:.6f}", _bound(">=", allowed["min_cosine"]))
    table.add_row("mean cosine", f"{report['mean_cosine']:.6f}", _bound(">=", allowed["mean_cosine"]))
    table.add_row("top-10 neighbour overlap", f"{report['neighbour_overlap']:.4f}", "")
    if report.get("active_overlap") is not None:
        shown = _bound(">=", allowed["active_overlap"])
        table.add_row("active in both, of all active", f"{report['active_overlap']:.4f}", shown)
    invariance = _bound(">=", allowed["batch_invariance"])
    table.add_row("batch invariance (cosine)", f"{report['batch_invariance']:.6f}", invariance)
    table.add_row("  the same of the reference", f"{report['reference_batch_invariance']:.6f}", "")
    table.add_row("worst text", Text(shortened(report["worst_text"])), "")
    for path in report["paths"]:
        what = f"layers by {path['path']}, min cosine"
        table.add_row(what, f"{path['min_cosine']:.6f}", _bound(">=", allowed["min_cosine"]))
    for item in report.get("outputs", ()):
        for measure in ("min_cosine", "mean_cosine", "batch_invariance"):
            what = f"{item['output']}, {measure.replace('_', ' ')}"
            table.add_row(what, f"{item[measure]:.6f}", _bound(">=", item["tolerance"][measure]))
    if report.get("images"):
        _add_images(table, report["images"], allowed)
    return table


def _add_images(table: Table, found: dict[str, Any], allowed: dict[str, Any]) -> None:
    table.add_row("images", str(found["num_images"]), "")
    table.add_row("  max abs error", f"{found['max_abs_error']:.2e}", _bound("<=", allowed["max_abs_error"]))
    for name in ("min_cosine", "mean_cosine", "batch_invariance"):
        table.add_row(f"  {name.replace('_', ' ')}", f"{found[name]:.6f}", _bound(">=", allowed[name]))
    table.add_row("  worst image", Text(found["worst_image"]), "")


def ranking(query: str, found: list[dict[str, Any]]) -> Table:
    """Documents by their score for a query."""
    table = _table(query, "rank", "score", "document", "text")
    for place, item in enumerate(found, start=1):
        shown = Text(shortened(item["text"], _DOCUMENT))
        table.add_row(str(place), f"{item['score']:.4f}", str(item["corpus_id"]), shown)
    return table


def distillation(found: dict[str, Any]) -> str:
    """What the distilled model is worth beside the model, in a sentence."""
    if found["measure"] == "spearman":
        return (
            f"Quality on {found['texts']} scored pairs (Spearman x 100): {100 * found['teacher']:.2f} for the model, "
            f"{100 * found['student']:.2f} distilled, a loss of {100 * (found['teacher'] - found['student']):.2f}"
        )
    return (
        f"Quality on {found['texts']} texts: {100 * found['student']:.1f}% of each text's ten nearest are still those "
        "the model finds; --eval FILE with scored pairs measures the loss on your own"
    )


def targets(rows: list[dict[str, Any]]) -> Table:
    """The table of targets."""
    table = _table("Targets", "target", "for", "min cosine", "batch-invariant", "here")
    table.columns[0].no_wrap = True
    for row in rows:
        invariant = "yes" if row["batch_invariant"] else "no"
        here = Text("; ".join(row["refusals"] or ["yes", *row["caveats"]]))
        table.add_row(row["name"], row["purpose"], f"{row['min_cosine']:g}", invariant, here)
    return table


def doctor(found: dict[str, Any]) -> Group:
    """What a machine has and runs, in lines that survive being pasted."""
    cpu, kernels, memory = found["cpu"], found["kernels"], found["memory_gb"]
    runs = kernels["runs"] or f"none: {'; '.join(kernels['refusals'])}"
    lines = {
        "stcompile": f"{found['stcompile']}, Python {found['python']}",
        "system": found["system"],
        "cpu": f"{cpu['model'] or 'unknown'}: {cpu['usable']} usable of {cpu['logical']}",
        "features": " ".join(cpu["features"]) or "none that matter here, or unknown",
        "memory": ", ".join(f"{size:g} GB of the {where}" for where, size in memory.items()) or "unknown",
        "kernels": f"{runs} (of {', '.join(kernels['available']) or 'none'})",
        "onnxruntime": ", ".join(found["engines"]["onnxruntime"]) or "not installed",
        "openvino": ", ".join(found["engines"]["openvino"]) or "not installed",
        "packages": ", ".join(f"{name} {number}" for name, number in found["packages"].items()),
        "environment": ", ".join(f"{name}={value}" for name, value in found["environment"].items()) or "nothing set",
    }
    if artifact := found.get("artifact"):
        lines["artifact"] = (
            f"{artifact['name']}: {artifact['kind']}, {artifact['target']}, kernels {artifact['kernels'] or 'none'}"
        )
        lines["fingerprint"] = artifact["fingerprint"]
        lines["self-test"] = f"passed, least cosine {artifact['least_cosine']:.6f}"
    targets = [
        f"  {name:<22} {'; '.join(row['refusals']) or '; '.join(['runs', *row['caveats']])}"
        for name, row in found["targets"].items()
    ]
    return Group(*(Text(f"{name:<12} {line}") for name, line in lines.items()), Text("targets"), *map(Text, targets))


def plan(recipe: dict[str, Any]) -> Group:
    """What a recipe did: in one line, layer by layer, and the budget it had to keep."""
    counts = f"{recipe['matmuls']} matrix multiplications, {recipe['embeddings']} embedding tables"
    parts: list[Any] = [
        Text(f"Quantization ({recipe['scheme']}): {counts}"),
        *(Text(f"  kept {line}") for line in recipe["kept"]),
    ]
    calibrated, budget = recipe["calibration"], recipe["budget"]
    if calibrated:
        parts.append(
            Text(
                f"  calibrated on {calibrated['name']}: {calibrated['texts']} texts, {calibrated['tokens']} tokens, "
                f"sha256 {calibrated['sha256'][:16]}"
            )
        )
    if drawn := recipe.get("image_calibration"):
        parts.append(Text(f"  and on {drawn['name']}: {drawn['texts']} pictures, {drawn['tokens']} positions"))
    if recipe["layers"]:
        parts.append(_layers(recipe["layers"]))
    if budget:
        parts.append(
            Text(
                f"Budget: {budget['measure']} {budget['limit']:g}, reached {budget['reached']:.5f} on "
                f"{budget['texts']} {'pairs' if budget['measure'] == 'spearman_drop' else 'texts'} after "
                f"{budget['steps']} moves to higher precision"
            )
        )
    return Group(*parts)


def _layers(layers: list[dict[str, Any]]) -> Table:
    names = [f"{row['route']}: {row['name']}" if row["route"] else row["name"] for row in layers]
    shared, rest = split_shared(names)
    title = f"Layers in {shared}" if shared else "Layers"
    table = _table(title, "layer, and why not cheaper", "computed as", "smoothing", "error", "sensitivity")
    for name, row in zip(rest, layers, strict=True):
        why = f"\n  {row['reason']}" if row["reason"] else ""
        table.add_row(
            Text(name + why),
            Text(_computed(row)),
            _number(row["smoothing"], "g"),
            _number(row["error"], ".4f"),
            _number(row["sensitivity"], ".1e"),
        )
    return table


def _computed(row: dict[str, Any]) -> str:
    parts = [row["scheme"], row["observer"], f"{row['bits']} bits" if row["bits"] < 8 else ""]
    return ", ".join(part for part in parts if part)


def tuning(found: dict[str, Any]) -> Group:
    """The table of a tuning, the winner first, what is recommended and why, and why each other target is not."""
    settings = found["settings"]
    table = _table(
        f"{settings['texts']} texts, {settings['rounds']} rounds, threads: {settings['threads']}",
        *("target", "texts/s", "times fp32", "cosine (min)", "drop", "size", "batch invariant"),
    )
    # Where the terminal is narrow, values break before their parentheses, and no name does.
    table.padding, table.columns[0].no_wrap = (0, 0), True
    for column, width in zip(table.columns[1:], (7, 11, 9, 7, 8, 9), strict=True):
        column.min_width = width
    for row in found["targets"]:
        if row["measured"] is not None:
            table.add_row(row["target"], *_measured(row["measured"]))
    others = [row for row in found["targets"] if row["reason"]]
    return Group(
        table,
        Text(f"Recommended: {found['why']}."),
        *([Text("Not recommended:")] if others else []),
        *(Text(f"  {row['target']}: {row['reason']}") for row in others),
    )


def _measured(item: dict[str, Any]) -> tuple[str, ...]:
    ratio = item["ratio"]
    return (
        f"{item['texts_per_second']:.0f}",
        f"{ratio['median']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f})",
        f"{item['mean_cosine']:.5f} ({item['min_cosine']:.4f})",
        f"{item['drop']:.3%}",
        megabytes(item["size"]),
        "yes" if item["batch_invariant"] else "no",
    )


def inspection(found: dict[str, Any]) -> Group:
    """A model folder or an artifact, as `inspect` describes it."""
    return _model(found) if found["kind"] == "model" else _artifact(found)


def _model(found: dict[str, Any]) -> Group:
    table = _table(f"Module stack ({found['layout']})", "#", "module", "folder", "configuration")
    _add_modules(table, found["modules"], "")
    facts = {
        key: found[key]
        for key in ("becomes", "modalities", "prompts", "default_prompt_name", "similarity", "truncate_dim")
    }
    lines = [Text(f"{key}: {value}") for key, value in facts.items() if value is not None]
    if found["weights_from"]:
        lines.append(Text(f"weights are read from {', '.join(found['weights_from'])}, and proved then"))
    if found["unsupported"]:
        lines.append(Text("Cannot be compiled:"))
        lines += [Text(f"  - {reason}") for reason in found["unsupported"]]
    else:
        lines.append(Text("Everything in it can be compiled."))
    return Group(table, *lines)


def _add_modules(table: Table, modules: list[dict[str, Any]], indent: str) -> None:
    for row in modules:
        name = row.get("type_path", row["type"])
        table.add_row(f"{indent}{row['position']}", Text(name), Text(row["path"]), Text(_pairs(row["config"])))
        for route, inner in row.get("routes", {}).items():
            table.add_row("", Text(f"route {route}:"), "", "")
            _add_modules(table, inner, f"{indent}{row['position']}.")


def _artifact(found: dict[str, Any]) -> Group:
    manifest, report = found["manifest"], found["report"]
    facts = _table(f"{report['source']['name']} as {manifest['target']}", "fact", "value")
    text = manifest["text"]
    stack = " > ".join(module["type"] for module in report["source"]["modules"])
    kept = [graph["max_active_dims"] for graph in manifest["graphs"] if graph.get("max_active_dims")]
    rows = {
        "kind": manifest["kind"],
        "module stack": stack,
        "recipe": report["recipe"],
        "engine": f"{manifest['engine']['name']}, {manifest['engine']['precision']}",
        "shaped for": report["provider"] + (", packed" if manifest["engine"]["packed"] else ""),
        "dimensions": manifest["truncate_dim"] or manifest["dim"],
        **({"active dimensions": f"at most {kept[0]} by default"} if kept else {}),
        "max sequence length": text["max_seq_length"] or "unlimited",
        **_images(manifest["image"]),
        "similarity": manifest["similarity"],
        **_routing(manifest["routing"]),
        "batch-invariant": "yes" if manifest["batch_invariant"] else "no",
        "prompts": ", ".join(name for name, value in manifest["prompts"].items() if value) or "none",
        "size": megabytes(found["size"]),
        "fingerprint": found["fingerprint"] or "none: exported before there were any",
        "source fingerprint": report["source"]["fingerprint"][:16],
        "versions": _pairs(report["versions"]),
    }
    for key, value in rows.items():
        facts.add_row(key, Text(str(value)))
    for note in report["notes"]:
        facts.add_row("note", Text(note))
    files = _table("Files", "file", "size", "sha256")
    for entry in manifest["files"]:
        files.add_row(Text(entry["path"]), megabytes(entry["size"]), Text(entry["sha256"][:16]))
    passes = _table("Passes", "pass", "rewrites", "refused because")
    for item in report["passes"]:
        passes.add_row(Text(item["name"]), str(item["rewrites"]), Text("; ".join(item["refusals"])))
    parts: list[Any] = [facts, files, passes]
    if report["distillation"]:
        parts.append(Text(distillation(report["distillation"])))
    if report["quantization"]:
        parts.append(plan(report["quantization"]))
    return Group(*parts, parity(manifest["target"], report["parity"]))


def _images(image: dict[str, Any] | None) -> dict[str, str]:
    if image is None:
        return {}
    steps = image["processing"]
    edge = steps["shortest_edge"]
    to = f"a shorter side of {edge}" if edge else f"{steps['resized_width']}x{steps['resized_height']}"
    parts = [
        *([f"resized to {to} ({steps['resample']})"] if steps["resample"] else []),
        *([f"the middle {steps['width']}x{steps['height']}"] if steps["crops"] else []),
    ]
    return {"images": ", ".join(parts)}


def _routing(routing: dict[str, Any] | None) -> dict[str, str]:
    if routing is None:
        return {}
    tasks = [f"{task} -> {route}" for task, route in routing["tasks"].items()]
    return {"tasks": ", ".join([*tasks, f"none -> {routing['default'] or 'refused'}"])}


def _table(title: str, *columns: str) -> Table:
    # What comes from a model or a file is text, never markup.
    table = Table(title=Text(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _bound(sign: str, value: float | None) -> str:
    return "" if value is None else f"{sign} {value:g}"


def _pairs(config: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in config.items() if value is not None)
