"""Where needs fit: nodes and the GPUs on them. Pure."""
