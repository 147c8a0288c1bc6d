"""Searching and reading: questions answered from a local corpus or over a live search API."""
