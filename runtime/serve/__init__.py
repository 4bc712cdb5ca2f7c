"""Monitoring as a service next to the model: many requests, one host, every position seen by the lenses.

Read `scheduler` first: its loop is what happens. `app` is the HTTP side of it and knows nothing of tensors.
"""
