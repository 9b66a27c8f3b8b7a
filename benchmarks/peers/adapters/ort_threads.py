"""A number of threads for libraries that open ONNX Runtime sessions and let nobody name one.

By itself ONNX Runtime takes all cores of the machine and pins its threads to them, whatever CPUs the process may use.
"""

from typing import Any


def limit(threads: int) -> None:
    """Every session that is opened from now on computes on so many threads, unless it names another number."""
    import onnxruntime

    before = onnxruntime.InferenceSession.__init__

    def limited(self: Any, path: Any, sess_options: Any = None, *rest: Any, **options: Any) -> None:
        chosen = onnxruntime.SessionOptions() if sess_options is None else sess_options
        chosen.intra_op_num_threads = chosen.intra_op_num_threads or threads
        before(self, path, chosen, *rest, **options)

    onnxruntime.InferenceSession.__init__ = limited
