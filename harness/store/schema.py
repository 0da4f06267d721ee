"""The tables of the history, and how a file of an older harness becomes one of this.

Results are clustered by run, because comparisons and pages read whole runs; the index finds those of one test. Texts
that repeat (reasons, signatures, names) are stored once."""

from __future__ import annotations

APPLICATION_ID = 0x61726D66  # "armf": what file(1) and we know the file by

# Each entry makes the next version out of the one before. Entries are only ever added.
MIGRATIONS = (
    """
    CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
    CREATE TABLE tests (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE cells (
        id INTEGER PRIMARY KEY, board TEXT NOT NULL, config TEXT NOT NULL, toolchain TEXT NOT NULL,
        UNIQUE (board, config, toolchain)
    );
    CREATE TABLE kernels (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL, release TEXT NOT NULL, source TEXT NOT NULL, version TEXT NOT NULL,
        git_commit TEXT NOT NULL, patches TEXT NOT NULL,
        UNIQUE (key, release, source, version, git_commit, patches)
    );
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, digest BLOB NOT NULL,
        cell INTEGER NOT NULL REFERENCES cells, kernel INTEGER NOT NULL REFERENCES kernels,
        started REAL NOT NULL, seconds REAL NOT NULL, "end" TEXT NOT NULL,
        host TEXT NOT NULL, harness TEXT NOT NULL, directory TEXT NOT NULL, requested TEXT NOT NULL
    );
    CREATE INDEX runs_by_time ON runs (cell, started);
    CREATE TABLE results (
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, test INTEGER NOT NULL REFERENCES tests,
        verdict INTEGER NOT NULL, actual INTEGER NOT NULL, milliseconds INTEGER NOT NULL,
        reason INTEGER REFERENCES texts, signature INTEGER REFERENCES texts, board INTEGER REFERENCES texts,
        PRIMARY KEY (run, test)
    ) WITHOUT ROWID;
    CREATE INDEX results_by_test ON results (test, run);
    CREATE TABLE repeats (
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, test INTEGER NOT NULL REFERENCES tests,
        number INTEGER NOT NULL, verdict INTEGER NOT NULL, milliseconds INTEGER NOT NULL,
        signature INTEGER REFERENCES texts, condition TEXT NOT NULL,
        PRIMARY KEY (run, test, number)
    ) WITHOUT ROWID;
    """,
    # What is asked across cells: the latest runs, and those of one kernel.
    """
    CREATE INDEX runs_by_start ON runs (started);
    CREATE INDEX runs_by_kernel ON runs (kernel, started);
    ALTER TABLE runs ADD COLUMN blames_kernel INTEGER NOT NULL DEFAULT 0;
    """,
    # A fault's history. Few results have a signature, so it is small.
    """
    CREATE INDEX results_by_signature ON results (signature, run) WHERE signature IS NOT NULL;
    """,
    # How long the boards of a run took to boot: how often they did, and the median.
    """
    CREATE TABLE boots (
        run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, board INTEGER NOT NULL REFERENCES texts,
        number INTEGER NOT NULL, milliseconds INTEGER NOT NULL,
        PRIMARY KEY (run, board)
    ) WITHOUT ROWID;
    """,
)
VERSION = len(MIGRATIONS)
