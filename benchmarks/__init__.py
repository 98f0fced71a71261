"""How fast andon is, how fast it stops, and how it grows; beside other pools. See README.md."""
