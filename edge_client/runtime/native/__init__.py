"""The native kernels: C sources, the library built from them, and its loader."""
