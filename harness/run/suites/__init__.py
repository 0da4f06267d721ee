"""The upstream suites' tests: finding them in a build, and running them on a target."""
