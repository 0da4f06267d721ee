"""The small language that testcases are written in: a guest, its tracefs, its modules, its livepatches."""
