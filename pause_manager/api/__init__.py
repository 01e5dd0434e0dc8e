"""The REST endpoints of the pause manager, and the framework that all endpoints of this project use."""
