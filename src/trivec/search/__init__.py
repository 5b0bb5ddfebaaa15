"""What finds and orders documents, whatever store they are in: hits, fusion, exact search, MaxSim, matched words."""
