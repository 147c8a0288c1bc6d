"""What can go wrong."""


class IniError(Exception):
    """A file that cannot be read, or a value that cannot be given."""
