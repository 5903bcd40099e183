"""Asking whether it helped: the same prompts and the same noise, before and after.

Read next: `plan.py` (what is fixed before looking), `suite.py` (the whole story).
"""
