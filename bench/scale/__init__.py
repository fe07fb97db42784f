"""What a run over many machines would take: simulated from rates that were measured on one."""
