"""One script a claim. Each runs the peer and us in one go and prints the ratio as one JSON object."""
