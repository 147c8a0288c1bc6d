"""Images that sandboxes run in, and what builds them."""
