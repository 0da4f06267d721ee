"""The history: results of many runs in one SQLite file. A cache of the run directories, from which it can be made again."""
