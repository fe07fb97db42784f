"""What the command line does, without its argument parsing. Private: the Python interface is `embedrt`."""
