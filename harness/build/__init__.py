"""Source, patches and configuration in, a finished build directory out."""
