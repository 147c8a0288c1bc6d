"""Repository patching: an agent, a repository at a commit, an issue, and tests that decide."""
