"""Provision topics as code: a catalogue of specs, a plan of changes, and its application."""
