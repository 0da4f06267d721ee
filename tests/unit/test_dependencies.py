"""The packages that the harness depends on: exact versions for CI, licences that fit ours."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
# We may import packages with any of these, weak copyleft included: they stay packages of their own.
PERMISSIVE = ("MIT", "BSD", "Apache", "ISC", "PSF", "Python Software Foundation", "Public Domain", "Unlicense", "0BSD",
              "ZPL", "Zope Public License")  # fmt: skip
WEAK_COPYLEFT = ("MPL", "Mozilla Public License", "LGPL", "Lesser General Public License")
# What their metadata say needs a person to understand.
UNCLEAR = {
    "arm64-ftrace-harness": "ours: MIT, and GPL-2.0-only for kernel modules",
    "junit-xml": "MIT: its metadata say 'Freely Distributable' as well",
}


def _locked(name: str) -> dict[str, list[str]]:
    """Return the hashes of each requirement (`name==version ; marker`) of a lock file."""
    text = re.sub(r"\\\n", " ", (ROOT / f"requirements/{name}.lock").read_text())
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    return {line.partition(" --hash")[0].strip(): re.findall(r"--hash=sha256:[0-9a-f]{64}", line) for line in lines}


@pytest.mark.parametrize("name", ["run", "test"])
def test_the_lock_file_has_hashes_and_what_pyproject_asks_for(name: str) -> None:
    locked = _locked(name)
    assert [line for line, hashes in locked.items() if not hashes] == []
    versions = {_key(req.name): req.specifier for req in map(Requirement, locked)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = list(map(Requirement, project["dependencies"]))
    if name == "test":
        extras = project["optional-dependencies"]
        wanted = [each for extra in ("lab", "labgrid", "test") for each in extras[extra]]
        asked += [req for req in map(Requirement, wanted) if req.name != project["name"]]
    for req in asked:
        exact = str(versions[_key(req.name)]).removeprefix("==")
        assert req.specifier.contains(exact), f"{req}, locked {exact}: run bin/lock"


def test_the_lock_files_agree_and_name_no_package_index() -> None:
    run, test = ({req.name: req.specifier for req in map(Requirement, _locked(name))} for name in ("run", "test"))
    assert {name: test.get(name) for name in run} == run
    for name in ("run", "test"):
        assert "://" not in (ROOT / f"requirements/{name}.lock").read_text()


def test_these_tests_run_with_the_locked_versions() -> None:
    if not (Path(sys.prefix) / ".locked").exists():
        pytest.skip("the locked versions do not fit this host, as bin/test said")
    expected = {_key(req.name): str(req.specifier)[2:] for req in map(Requirement, _locked("test")) if _applies(req)}
    assert {name: metadata.version(name) for name in expected} == expected


def test_licences_fit_ours() -> None:
    done = subprocess.run(
        [Path(sys.prefix) / "bin/pip-licenses", "--from=mixed", "--format=json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    allowed = PERMISSIVE + WEAK_COPYLEFT
    others = {
        each["Name"]: each["License"]
        for each in json.loads(done.stdout)
        if each["Name"] not in UNCLEAR and not all(_any_of(part, allowed) for part in _parts(each["License"]))
    }
    assert others == {}


def _parts(licence: str) -> list[str]:
    """Return what all has to be allowed: of alternatives, one is enough, so `A OR B` stays one part."""
    return re.split(r"; | AND ", licence)


def _any_of(licence: str, allowed: tuple[str, ...]) -> bool:
    return any(name in licence for name in allowed)


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate()


def _key(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()
