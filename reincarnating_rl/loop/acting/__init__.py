"""Acting: policies, environments in play, evaluation, replay writing."""
