"""A hub on this machine: as much of the Hugging Face hub's HTTP interface as its client asks to push and to fetch.

Repositories are kept in memory, each branch as a list of commits. Small files come with the commit, all others before
it, by the hub's protocol for large files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import yaml

# Bytes above which a file is a large one.
_LARGE = 4096

TOKEN = "hf_for_tests"


@dataclass
class Repository:
    """One repository: commits by their hash, each the files by their paths, and branches by their names."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    private: bool = False

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        """Puts a commit of all these files on a branch."""
        content = "".join(f"{path} {hashlib.sha256(data).hexdigest()}\n" for path, data in sorted(files.items()))
        name = hashlib.sha1(f"{len(self.commits)} {content}".encode()).hexdigest()
        self.commits[name] = files
        self.branches[branch] = name
        return name

    def find(self, revision: str) -> str | None:
        """The commit that a branch is at, or that is one itself."""
        return self.branches.get(revision, revision if revision in self.commits else None)


@dataclass
class Hub:
    """What is on it, and what was asked.

    Attributes:
        url: of it.
        repositories: by `owner/name`.
        asked: method and path of each request.
        after: by the name of a file, what happens once it was sent.
        close: ends it before its time.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    after: dict[str, Callable[[], object]] = field(default_factory=dict)
    close: Callable[[], None] = lambda: None


@contextmanager
def hub_endpoint() -> Iterator[Hub]:
    """A hub that runs until the end."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    hub.close = close
    try:
        yield hub
    finally:
        close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.hub.asked.append((self.command, path))
        for method, pattern, answer in _ROUTES:
            found = re.fullmatch(pattern, path)
            if method in (self.command, "GET" if self.command == "HEAD" else "") and found:
                answer(self, body, **{name: unquote(value) for name, value in found.groupdict().items()})
                return
        self._send(404, {"error": f"no such path {path}"})

    def _send(self, status: int, content: Any, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _repository(self, name: str) -> Repository | None:
        """The repository, where there is one that who asks may see."""
        found = self.hub.repositories.get(name)
        if found is None or (found.private and not self._is_known()):
            self._send(401, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return None
        return found

    def _commit_at(self, name: str, revision: str) -> tuple[Repository, str] | None:
        """A repository and its commit at a revision, where who asks may see it and there is one."""
        repository = self._repository(name)
        commit = None if repository is None else repository.find(revision)
        if repository is not None and commit is None:
            self._send(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        return None if repository is None or commit is None else (repository, commit)

    def _is_known(self) -> bool:
        return self.headers.get("authorization") == f"Bearer {TOKEN}"

    def _may_write(self) -> bool:
        if not self._is_known():
            self._send(401, {"error": "Invalid credentials"})
        return self._is_known()

    def _card(self, body: bytes) -> None:
        """Whether the head of a card is YAML with what the hub asks for."""
        asked = json.loads(body)
        content = asked["content"]
        head = yaml.safe_load(content.removeprefix("---\n").partition("\n---\n")[0])
        wrong = [] if isinstance(head, dict) and isinstance(head.get("tags"), list) else [{"message": "no tags"}]
        self._send(400 if wrong else 200, {"errors": wrong, "warnings": []})

    def _create(self, body: bytes) -> None:
        if not self._may_write():
            return
        asked = json.loads(body)
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if name in self.hub.repositories:
            self._send(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
            return
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        made = self.hub.repositories[name] = Repository(private=private)
        made.commit("main", {".gitattributes": b"*.onnx filter=lfs\n"})
        self._send(200, {"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def _branch(self, body: bytes, name: str, branch: str) -> None:
        repository = self._repository(name)
        if repository is None or not self._may_write():
            return
        if branch in repository.branches:
            self._send(409, {"error": "Reference already exists"})
            return
        repository.branches[branch] = repository.branches["main"]
        self._send(200, {})

    def _info(self, body: bytes, name: str, revision: str = "main") -> None:
        found = self._commit_at(name, revision)
        if found is None:
            return
        repository, commit = found
        siblings = [{"rfilename": path} for path in sorted(repository.commits[commit])]
        self._send(200, {"_id": name, "id": name, "sha": commit, "private": repository.private, "siblings": siblings})

    def _preupload(self, body: bytes, name: str, revision: str) -> None:
        repository = self._repository(name)
        if repository is None or not self._may_write():
            return
        files = repository.commits[repository.branches[revision]]
        modes = []
        for file in json.loads(body)["files"]:
            mode = "lfs" if file["size"] > _LARGE else "regular"
            known = {"oid": _oid(files[file["path"]], mode)} if file["path"] in files else {}
            modes.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, **known})
        self._send(200, {"files": modes})

    def _batch(self, body: bytes, name: str) -> None:
        objects = [
            {**item, "actions": {"upload": {"href": f"{self.hub.url}/blobs/{item['oid']}"}}}
            for item in json.loads(body)["objects"]
        ]
        self._send(200, {"transfer": "basic", "objects": objects})

    def _blob(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            self._send(400, {"error": "another sha256"})
            return
        self.hub.blobs[oid] = body
        self._send(200, {})

    def _commit(self, body: bytes, name: str, revision: str) -> None:
        repository = self._repository(name)
        if repository is None or not self._may_write():
            return
        lines = [json.loads(line) for line in body.splitlines()]
        parent = repository.branches[revision]
        if lines[0]["value"].get("parentCommit") not in (None, parent):
            self._send(412, {"error": "A commit has happened since. Please refresh and try again."})
            return
        files = dict(repository.commits[parent])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        commit = repository.commit(revision, files)
        self._send(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit})

    def _file(self, body: bytes, name: str, revision: str, file: str) -> None:
        found = self._commit_at(name, revision)
        if found is None:
            return
        repository, commit = found
        content = repository.commits[commit].get(file)
        if content is None:
            self._send(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            return
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        self._send(200, content, ETag=etag, X_Repo_Commit=commit)
        if self.command == "GET":
            self.hub.after.pop(file, lambda: None)()


def _oid(content: bytes, mode: str) -> str:
    """What git, and its store of large files, calls a content."""
    if mode == "lfs":
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


_NAME = r"(?P<name>[^/]+/[^/]+)"
_REVISION = r"(?P<revision>[^/]+)"

_ROUTES = (
    ("POST", r"/api/repos/create", _Handler._create),
    ("POST", r"/api/validate-yaml", _Handler._card),
    ("POST", rf"/api/models/{_NAME}/branch/(?P<branch>[^/]+)", _Handler._branch),
    ("GET", rf"/api/models/{_NAME}", _Handler._info),
    ("GET", rf"/api/models/{_NAME}/revision/{_REVISION}", _Handler._info),
    ("POST", rf"/api/models/{_NAME}/preupload/{_REVISION}", _Handler._preupload),
    ("POST", rf"/api/models/{_NAME}/commit/{_REVISION}", _Handler._commit),
    ("POST", rf"/{_NAME}\.git/info/lfs/objects/batch", _Handler._batch),
    ("PUT", r"/blobs/(?P<oid>[0-9a-f]+)", _Handler._blob),
    ("GET", rf"/{_NAME}/resolve/{_REVISION}/(?P<file>.+)", _Handler._file),
)
