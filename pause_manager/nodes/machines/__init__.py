"""Which machine this is, and which containers are on it."""
