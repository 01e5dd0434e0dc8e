"""What is asked of the broker, and how messages are kept and sent."""
