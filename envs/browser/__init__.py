"""The web domain: pages in a real Chromium, at any turn of a recorded session."""
