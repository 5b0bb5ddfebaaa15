"""What finds and orders documents, whatever store they are in: fusion, exact search, MaxSim, matched words, nDCG."""
