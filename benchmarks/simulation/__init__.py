"""A discrete-event simulation of a fleet that drives the very policy the fleet runs by."""
