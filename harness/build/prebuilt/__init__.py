"""Kernels that others built: found, fetched, unpacked and made into a build directory as one of ours."""
