"""Credits: what work costs, who has paid for it, and where it stops when nobody has. The engine does not know this."""
