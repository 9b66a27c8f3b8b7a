"""The artifact as a folder: opened and checked, staged and published."""

from stcompile.artifact.folder import Artifact, open_artifact, write_manifest
from stcompile.artifact.publish import Destination, claimed
from stcompile.artifact.writing import scratch, written

__all__ = ["Artifact", "Destination", "claimed", "open_artifact", "scratch", "write_manifest", "written"]
