"""Training: losses, schedules, methods, and the engine that runs any of them."""
