"""Stops the guessing of passwords and tokens before anything is looked up or hashed. See ADR 21."""
