"""What the engine tells the pause manager about its work, and does when holds change."""
