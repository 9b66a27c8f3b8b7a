"""The networks of golden models as ONNX and OpenVINO graphs, as other tools write them: golden/exported/TOOL/MODEL.

    PYTHON -m golden.exported_folders optimum normalize plain_roberta ...

Run by the Python of an environment of its own, where stcompile is not: `optimum` needs sentence-transformers[onnx],
`optimum_intel` sentence-transformers[openvino], `transformers` 5.24 and onnxscript. The weights of the model's folder
are left out, which is what the tests are about; its expected vectors are those of golden/expected.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent

_WEIGHTS = shutil.ignore_patterns("model.safetensors", "pytorch_model.bin")


def optimum(source: Path, destination: Path) -> None:
    """As optimum exports a network, which sentence-transformers' ONNX backend does with it, and rounded as both do."""
    from onnxruntime.quantization import quantize_dynamic
    from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTModelForSequenceClassification

    names = json.loads((source / "config.json").read_text(encoding="utf-8")).get("architectures") or [""]
    scores = names[0].endswith("ForSequenceClassification")
    kind = ORTModelForSequenceClassification if scores else ORTModelForFeatureExtraction
    graphs = destination / "onnx"
    graphs.mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        kind.from_pretrained(str(source), export=True).save_pretrained(scratch)
        shutil.copy(Path(scratch) / "model.onnx", graphs)
    quantize_dynamic(graphs / "model.onnx", graphs / "model_qint8.onnx")


def transformers(source: Path, destination: Path) -> None:
    """As transformers' own exporter writes it, without fusions."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.exporters import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    model = AutoModel.from_pretrained(str(source), local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(source), local_files_only=True)
    sample = dict(tokenizer(["a dog", "a cat and a dog"], padding=True, return_tensors="pt"))
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False
    OnnxExporter().export(model, sample, OnnxConfig(dynamic=True)).save_pretrained(str(destination / "onnx"))


def optimum_intel(source: Path, destination: Path) -> None:
    """As optimum-intel writes a network for OpenVINO, which sentence-transformers' backend does with it.

    Beside it with weights in float16, and rounded to 8 bits as NNCF does.
    """
    import nncf
    import openvino
    from optimum.intel import OVModelForFeatureExtraction

    folder = destination / "openvino"
    folder.mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        OVModelForFeatureExtraction.from_pretrained(str(source), export=True).save_pretrained(scratch)
        for file in ("openvino_model.xml", "openvino_model.bin"):
            shutil.copy(Path(scratch) / file, folder)
    network = openvino.Core().read_model(folder / "openvino_model.xml")
    openvino.save_model(network, folder / "openvino_model_fp16.xml", compress_to_fp16=True)
    openvino.save_model(nncf.compress_weights(network), folder / "openvino_model_int8.xml")


TOOLS: dict[str, Callable[[Path, Path], None]] = {
    "optimum": optimum,
    "optimum_intel": optimum_intel,
    "transformers": transformers,
}


def main() -> None:
    tool, *names = sys.argv[1:]
    for name in names:
        source, destination = HERE / "models" / name, HERE / "exported" / tool / name
        shutil.rmtree(destination, ignore_errors=True)
        shutil.copytree(source, destination, ignore=_WEIGHTS)
        TOOLS[tool](source, destination)
        made = sorted(path.name for path in destination.rglob("*") if path.suffix in (".onnx", ".xml"))
        sys.stdout.write(f"{tool} {name}: {made}\n")


if __name__ == "__main__":
    main()
