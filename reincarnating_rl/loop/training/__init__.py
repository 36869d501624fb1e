"""Training: learner state, replay and the schedule of updates."""
