"""Many callers, one engine: the queue before it, for servers and asynchronous programs."""
