"""What surrounds every workload of this host: kernel, machine underneath, guards, accounts."""
