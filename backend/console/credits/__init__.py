"""The pages of credits and billing."""
