"""What a machine says of itself: processor, memory, disk and GPUs, read by a process of its own."""
