"""The documents name files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "testcases/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)
# A path is relative to the checkout, to the package (as in docs/architecture.md), to the testcases (as in test ids), or
# to the document itself.
BASES = (ROOT, ROOT / "harness", ROOT / "testcases")
PATH = re.compile(r"(?<![\w./~$<-])((?:[\w.-]+/)+[\w-]+\.(?:py|md|yaml|json|c|txt))\b(?![\w/-])")
# Files of the kernel, what a run leaves, and names that the reader chooses.
ELSEWHERE = re.compile(r"^(?:arch|drivers|init|kernel)/|^out/|(^|/)(NAME|test_x)\.")


def _paths(document: Path) -> list[str]:
    return sorted(path for path in set(PATH.findall(document.read_text())) if not ELSEWHERE.search(path))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    missing = [
        path for path in _paths(document) if not any((base / path).exists() for base in (*BASES, document.parent))
    ]
    assert not missing, f"{document.relative_to(ROOT)} names files that do not exist; rename or remove them: {missing}"


def test_the_documents_name_files() -> None:
    assert len(_paths(ROOT / "docs/architecture.md")) > 50
    assert "harness/model/suite.py" in _paths(ROOT / "CONTRIBUTING.md")
