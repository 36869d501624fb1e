"""Sweeps: many runs from one description (layer 7).

  python -m reincarnating_rl.launch --sweep sweep.yaml --base_dir /tmp/sweep

`sweep` reads the description, `trials` makes the list of trials, and `check`
finds all errors in it. `rates` estimates time and memory. `engine` runs the
trials on Ray Tune, each as a `process`; `status_display` shows them, and
`progress_on_disk` tells which are finished. `population` runs population-based
training, as `population_spec` describes it. docs/scaling.md is for users.
"""
