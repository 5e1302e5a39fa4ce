"""seccomp filters, from live processes or an OCI profile, interpreted call by call."""
