"""The oldest declared huggingface_hub: what is fetched, and what is said where it fails."""

import os
import sys
from pathlib import Path

from tests.hub.endpoint import TOKEN, Repository, hub_endpoint

with hub_endpoint() as hub:
    # Its client reads these when it is imported.
    os.environ |= {"HF_ENDPOINT": hub.url, "HF_HOME": "home", "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    os.environ.pop("HF_HUB_OFFLINE", None)
    import huggingface_hub

    import stcompile

    assert huggingface_hub.__version__ == sys.argv[2], huggingface_hub.__version__
    artifact = Path(sys.argv[1])
    files = {path.relative_to(artifact).as_posix(): path.read_bytes() for path in artifact.rglob("*") if path.is_file()}
    without = {name: content for name, content in files.items() if name != "tokenizer.json"}
    for name, content in {"whole": files, "model": {"config.json": b"{}"}, "part": without}.items():
        hub.repositories[f"acme/{name}"] = made = Repository()
        made.commit("main", content)
    fetched = stcompile.load("acme/whole").encode("a dog")
    assert (fetched == stcompile.load(artifact).encode("a dog")).all()
    for name, told in {
        "acme/model": "is no stcompile artifact, it has no manifest.json",
        "acme/part": "is incomplete: tokenizer.json is missing",
        "acme/none": "neither as a folder here nor on the hub",
        "acme/whole@v2": "has no revision 'v2' on the hub",
    }.items():
        try:
            stcompile.load(name)
        except stcompile.ArtifactError as error:
            assert told in str(error), error
        else:
            raise AssertionError(name)
print("right")
