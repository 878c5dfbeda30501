"""Networks and their weight files. Reads no imagery and knows no georeferencing."""
