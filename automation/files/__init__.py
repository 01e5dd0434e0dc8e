"""The files that stages leave: their names, where they are kept, and who may replace them."""
