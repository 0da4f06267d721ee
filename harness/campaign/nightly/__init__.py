"""`harness nightly`: the cells of a plan are built and tested, night after night."""
