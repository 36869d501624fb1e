"""The soak test: a training that suffers faults and must lose nothing.

python scripts/soak.py --faults 50
"""
