"""What requests may hold and answers do hold; also the source of the OpenAPI schema."""
