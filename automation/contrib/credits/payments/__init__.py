"""Payments over a provider: orders, signed notices, and how they are booked."""
