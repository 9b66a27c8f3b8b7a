"""The measured process of `cold_start`: started as a file by any interpreter that has stcompile.

Arguments: the parent's `time.monotonic()` just before the start, and the artifact. Prints one JSON object. The
monotonic clock is one clock for all processes on Linux and macOS, so the parent's reading can be subtracted.
"""

import time

PYTHON_RUNS = time.monotonic()

# The imports are what is measured, hence their place and their order.
import sys  # noqa: E402

from stcompile import load  # noqa: E402

IMPORTED = time.monotonic()


def main(started: float, artifact: str) -> None:
    encoder = load(artifact)
    loaded = time.monotonic()
    encoder.encode("The first sentence is the one that counts.")
    encoded = time.monotonic()

    import json  # noqa: PLC0415 - after the last reading of the clock

    report = {
        "python start": PYTHON_RUNS - started,
        "import": IMPORTED - PYTHON_RUNS,
        "load": loaded - IMPORTED,
        "first encode": encoded - loaded,
        "total": encoded - started,
        "peak_rss_mb": _peak_rss() / 1e6,
        "torch_imported": "torch" in sys.modules,
    }
    print(json.dumps(report))


def _peak_rss() -> int:
    """Bytes. Linux counts the parent's peak into `ru_maxrss` after a fork, so `VmHWM` comes first."""
    try:
        with open("/proc/self/status", encoding="utf-8") as stream:  # noqa: PTH123 - as few imports as can be
            return next(int(line.split()[1]) * 1024 for line in stream if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource  # noqa: PLC0415 - not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2])
