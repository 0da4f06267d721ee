"""The history: results of many runs in one SQLite file, which can be made again from the run directories."""
