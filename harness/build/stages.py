"""Records of finished build stages in a workspace, so that only outdated stages run again.

A stage is described by its inputs and its products. It is up to date if both are as they were when it last finished.
Its record is removed before the work begins, so a killed or failed stage is never up to date."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import jsonfile
from harness.build.checksum import write_atomically
from harness.model.kernel import Toolchain

_TOOLS = ("gcc", "ld.lld", "make", "pahole", "rustc", "bindgen")
_OF_THE_PREFIX = ("ld", "as", "ar", "objcopy")


@dataclass(frozen=True)
class Stages:
    """The records of a workspace's stages, one file each in `directory`."""

    directory: Path

    def once(
        self, name: str, inputs: Any, products: Sequence[Path], work: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return what `work` returned for these `inputs` when it last finished; do it again if the stage is not up to
        date."""
        if (result := self.standing(name, inputs, products)) is None:
            self.forget(name)
            result = work()
            self.finished(name, inputs, products, result)
        return result

    def standing(self, name: str, inputs: Any, products: Sequence[Path]) -> dict[str, Any] | None:
        """Return the result of the stage if it is up to date; otherwise None."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            record = jsonfile.read_object(self._file(name))
            if record["inputs"] == _hash(inputs) and record["products"] == _stamps(products):
                return dict(record["result"])
        return None

    def forget(self, name: str) -> None:
        """Mark the stage as outdated; called before its products are changed."""
        self._file(name).unlink(missing_ok=True)

    def finished(self, name: str, inputs: Any, products: Sequence[Path], result: dict[str, Any]) -> None:
        """Record the stage with the products as they are now. `inputs` and `result` go through JSON."""
        record = {"inputs": _hash(inputs), "products": _stamps(products), "result": result}
        self.directory.mkdir(exist_ok=True)
        write_atomically(self._file(name), json.dumps(record, indent=1))

    def identity(self, name: str) -> str:
        """Return an identifier of this execution of the stage; stages that depend on it run again when it changes."""
        record = jsonfile.read_object(self._file(name))
        return _hash([record["inputs"], record["products"]])

    def _file(self, name: str) -> Path:
        return self.directory / f"{name.replace(' ', '-')}.json"


def tool_stamps(toolchain: Toolchain) -> list[list[Any]]:
    """Return size and time of each program that kbuild runs, so that an upgrade is noticed."""
    found = [Path(path).resolve() for path in map(shutil.which, programs_of(toolchain)) if path]
    return [[str(path), *(_stamp(path) or ())] for path in found]


def programs_of(toolchain: Toolchain) -> tuple[str, ...]:
    """Return the names of the programs that kbuild runs with this toolchain."""
    prefix = next((arg.partition("=")[2] for arg in toolchain.make_args if arg.startswith("CROSS_COMPILE=")), "")
    return (toolchain.command, *(prefix + tool for tool in _OF_THE_PREFIX), *_TOOLS)


def _hash(inputs: Any) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _stamps(products: Sequence[Path]) -> dict[str, list[int] | None]:
    return {str(path): _stamp(path) for path in products}


def _stamp(path: Path) -> list[int] | None:
    """None: there is no such file, which is a state like others (a kernel without modules has no Module.symvers)."""
    with contextlib.suppress(OSError):
        status = path.stat()
        return [status.st_mtime_ns, status.st_size]
    return None
