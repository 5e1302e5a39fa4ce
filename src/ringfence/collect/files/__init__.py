"""File trees: directories, tar archives and images, read in place and never unpacked."""
