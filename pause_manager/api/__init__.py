"""What every REST view of this project shares: requests with an id, bounded bodies, errors with a code, idempotency."""
