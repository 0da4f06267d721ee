"""Which stages of a build stand in a workspace already, so that only what is new is made.

A stage is told by what goes into it and by the files that come out. It stands when both are as they were when it was
last finished. Its record goes before the work begins, so one that was killed or that failed never stands.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        """What `work` returned when it was last done for these `inputs`; done again where it does not stand."""
        if (result := self.standing(name, inputs, products)) is None:
            self.forget(name)
            result = work()
            self.finished(name, inputs, products, result)
        return result

    def standing(self, name: str, inputs: Any, products: Sequence[Path]) -> dict[str, Any] | None:
        """The result of the stage where it stands; otherwise None."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads(self._file(name).read_text())
            if record["inputs"] == _hash(inputs) and record["products"] == _stamps(products):
                return dict(record["result"])
        return None

    def forget(self, name: str) -> None:
        """Say that the stage does not stand: before its products are touched."""
        self._file(name).unlink(missing_ok=True)

    def finished(self, name: str, inputs: Any, products: Sequence[Path], result: dict[str, Any]) -> None:
        """Record the stage with the products as they are now. `inputs` and `result` go through JSON."""
        record = {"inputs": _hash(inputs), "products": _stamps(products), "result": result}
        self.directory.mkdir(exist_ok=True)
        write_atomically(self._file(name), json.dumps(record, indent=1))

    def identity(self, name: str) -> str:
        """Names this making of the stage: what builds upon it is made anew when this changes."""
        record = json.loads(self._file(name).read_text())
        return _hash([record["inputs"], record["products"]])

    def _file(self, name: str) -> Path:
        return self.directory / f"{name.replace(' ', '-')}.json"


def tool_stamps(toolchain: Toolchain) -> list[list[Any]]:
    """The programs that kbuild runs, with size and time of each: one that was upgraded is another one."""
    prefix = next((arg.partition("=")[2] for arg in toolchain.make_args if arg.startswith("CROSS_COMPILE=")), "")
    names = (toolchain.command, *(prefix + tool for tool in _OF_THE_PREFIX), *_TOOLS)
    found = [Path(path).resolve() for path in map(shutil.which, names) if path]
    return [[str(path), *(_stamp(path) or ())] for path in found]


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
