"""Networks and their files; knows nothing of imagery on disk or of geography."""
