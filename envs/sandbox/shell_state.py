"""The state of a bash process as text: read, compared, and put back into another one."""
