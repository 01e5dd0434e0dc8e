"""The pages of resources and of one resource."""
