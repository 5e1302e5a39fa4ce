"""seccomp: programs, profiles, questions."""
