"""Benchmarks of this package; run them from the repository.

python -m benchmarks.benchmark               this package alone
python -m benchmarks.benchmark_peers         beside Dopamine
python -m benchmarks.benchmark_checkpoints   cost of a checkpoint
python -m benchmarks.benchmark_replay_logs   loading a teacher's replay
python -m benchmarks.profile_parts           parts of an update
"""
