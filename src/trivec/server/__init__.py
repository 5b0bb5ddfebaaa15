"""`trivec serve`: the three vectors over HTTP, for the clients that exist. Routes know nothing of engines."""
