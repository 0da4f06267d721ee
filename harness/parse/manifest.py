"""manifest.json, both ways: the digests of a finished directory's files, or of a single file beside it."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath

from harness.model.product import Digest, Manifest
from harness.parse.fields import json_object

_VERSION = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


def manifest_to_json(manifest: Manifest) -> str:
    """The text of a manifest.json."""
    files = {name: {"size": each.size, "sha256": each.sha256} for name, each in manifest.files.items()}
    return json.dumps({"version": _VERSION, "files": files, "links": dict(manifest.links)}, indent=1) + "\n"


def manifest_from_json(text: str) -> Manifest:
    """Parse a manifest.json. Raises ValueError if any part of it is malformed: half a manifest proves nothing."""
    data = json_object(text)
    if not isinstance(data.get("files"), dict) or not isinstance(data.get("links"), dict):
        raise ValueError("expected an object with files and links")
    if data.get("version") != _VERSION:
        raise ValueError(f"version: expected {_VERSION}, found {data.get('version')!r}")
    files = {_inside(name): _digest(name, each) for name, each in data["files"].items()}
    links = {_inside(name): target for name, target in data["links"].items()}
    if not all(isinstance(target, str) for target in links.values()):
        raise ValueError("links: expected strings")
    return Manifest(files=files, links=links)


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise ValueError(f"expected a path inside the directory, found {name!r}")
    return name


def _digest(name: str, data: object) -> Digest:
    if isinstance(data, dict):
        size, sha256 = data.get("size"), data.get("sha256")
        if type(size) is int and size >= 0 and isinstance(sha256, str) and _SHA256.fullmatch(sha256):
            return Digest(size=size, sha256=sha256)
    raise ValueError(f"{name}: expected size and sha256, found {data!r}"[:200])
