"""Reviews a patch series: patch by patch, as a whole, and against an older version of it."""
