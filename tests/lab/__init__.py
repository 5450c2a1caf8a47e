"""Emulated hosts for proa's tests, demo and benchmarks: images, network namespaces, QEMU, an outside client."""
