"""`embedrt front`: one address before several servers, which sends each request where least waits."""
