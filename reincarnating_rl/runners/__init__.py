"""Runners: bindings become a plan for the loop, records become logs."""
