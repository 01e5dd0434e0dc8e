"""The first page: is work flowing, what needs a person, what waits, how fast it goes, how full each machine is."""
