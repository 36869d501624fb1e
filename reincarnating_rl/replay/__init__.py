"""Device-resident replay: a ring of single frames and a tree of priorities."""
