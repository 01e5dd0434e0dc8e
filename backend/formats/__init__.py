"""How the admin writes times: with their zone, as the console and the commands do."""
