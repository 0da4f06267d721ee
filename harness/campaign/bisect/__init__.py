"""`harness bisect`: which change made a test fail."""
