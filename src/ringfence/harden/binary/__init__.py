"""What the machine code of programs and libraries can ask of the kernel. x86-64 only."""
