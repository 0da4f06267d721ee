"""pytest runs the testcases and the upstream selftests against a target."""
