"""Files: ELF, tar, layers, images, packages, folders."""
