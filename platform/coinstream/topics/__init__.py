"""Describe topics as code: the catalogue of topic specs, the plan of changes and their application."""
