"""Downloads runs from Google Cloud Storage: list, copy, verify, resume.

`download.download` copies a run, or one checkpoint of it, into a folder;
`listing` tells what a bucket holds. The gsutil program copies (`gsutil`). Each
file is checked against the bucket's listing before it gets its name
(`verified_copy`), and recorded in `download.json` (`manifest`).

This package knows files and the names that Dopamine gives them (`run_layout`),
not their contents. Sizes are in bytes.
"""
