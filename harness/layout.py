"""Where the project keeps its data files: beside the package, in the checkout that it runs from."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
KCONFIGS = PROJECT / "kconfigs"
TESTCASES = PROJECT / "testcases"
BOARDS = PROJECT / "boards.yaml"
BOARDS_DOCS = PROJECT / "docs/boards.md"
EXPECTATIONS = TESTCASES / "expectations.yaml"
MUTANTS = PROJECT / "tests/mutants"
