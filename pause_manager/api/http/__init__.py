"""What all endpoints share: permissions, strict bodies, errors, idempotency, pages."""
