"""Copies runs out of Google Cloud Storage: list, copy, verify, resume.

`transfer.download` brings a run, or one checkpoint of it, into a folder;
`browse` says what a bucket holds. Either gsutil or google-cloud-storage does
the copying (`clients`); what they bring is checked against the bucket's own
listing before it gets its name, and recorded in `download.json` (`manifest`).

This package knows files and the names that Dopamine gives them (`layout`), not
what is in them. It imports the standard library alone; the client and the
progress bar are imported where they are used. Sizes are bytes everywhere.
"""
