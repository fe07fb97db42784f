"""What `make demo` shows, and the real models that it shows it on."""
