"""What an application does when it runs: an exercise, in an isolated copy, traced by strace."""
