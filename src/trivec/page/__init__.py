"""The search page: static files that a browser shows as they are, and the picture of an explanation made of them."""
