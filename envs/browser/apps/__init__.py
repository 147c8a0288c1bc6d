"""Two small web applications with tasks: a shop (``shop``) and a ticket tracker (``tracker``)."""
