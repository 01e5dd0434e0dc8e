"""GPUs by NVML, in a process that is killed when a driver hangs."""
