"""The locations of the data files: testcases, kernel configuration, boards.

In a checkout they stand beside the package, where people edit them; in an installed package (see the `sources` of the
wheel in pyproject.toml) they are inside it, with the same paths below `PROJECT`. Nothing writes there."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "data"
PROJECT = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent
KCONFIGS = PROJECT / "kconfigs"
TESTCASES = PROJECT / "testcases"
BOARDS = PROJECT / "boards.yaml"
BOARDS_DOCS = PROJECT / "docs/boards.md"
EXPECTATIONS = TESTCASES / "expectations.yaml"
KNOWN_ISSUES = TESTCASES / "known-issues.yaml"
MUTANTS = PROJECT / "tests/mutants"
SKELETON = _PACKAGE / "skeleton"  # what `harness init` lays out
