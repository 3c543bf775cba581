"""The page in a browser: what visitors ask for, the queue, the one thread that draws, the web."""
