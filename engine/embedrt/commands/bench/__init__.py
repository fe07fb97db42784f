"""`embedrt bench`: latency and throughput of a bundle on this machine."""
