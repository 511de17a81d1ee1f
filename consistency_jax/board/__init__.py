"""A leader board of audits: one entry a model, checked, and a page that needs no server."""
