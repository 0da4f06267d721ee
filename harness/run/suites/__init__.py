"""The upstream suites' tests: which there are in a build, and how they are run on a target."""
