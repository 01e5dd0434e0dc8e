"""The admin's formats of times: with the zone, as in the commands."""
