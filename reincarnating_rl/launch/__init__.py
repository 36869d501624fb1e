"""Many runs from one description: grids, samples, clusters (layer 7).

  python -m reincarnating_rl.launch --sweep sweep.yaml --base_dir /tmp/sweep

`sweep` reads what is wanted, `trials` makes a list of it, `check` says what is
wrong with that list, `rates` how long it takes, `engine` has Ray Tune carry it
out through `process`, `board` shows it, `disk` knows what is done. `rules`,
`together` and `member` are for populations.
docs/scaling.md is the user's view.
"""
