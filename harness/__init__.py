"""Build, boot and test arm64 kernels for ftrace, function_graph and livepatch."""

__version__ = "0.1.0"
